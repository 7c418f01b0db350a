"""The walsh layer: fixed codes that words of one kind share in part, read through a learned projection."""

from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embeddings.errors import InputError, unknown_name
from embeddings.methods.hadamard import block_signs, enough_columns, row_count
from embeddings.methods.walsh import Options, codes
from fixlm.output.cross_entropy import (
    LOW_TYPES,
    as_tensor,
    autocast_type,
    require_count,
    require_head,
    widened,
    without_autocast,
    wrong_ids,
)
from fixlm.output.ingredients import Ingredients
from fixlm.output.kernels.block_hadamard import UNUSED, block_hadamard_logits, block_hadamard_nll, walsh_hadamard
from fixlm.output.kernels.projected_cross_entropy import nll_with_rows, projected_cross_entropy
from fixlm.output.kernels.top_k import block_hadamard_top_k
from fixlm.output.layer import OutputLayer, joining_projection

HALVES = ("both", "shared", "own")
BASES = ("families", "codes")


class WalshOutput(OutputLayer):
    """logits of block c = FWHT_M(s + d_c ∘ r) + b with (s, r) = g · A x.

    The word in block c at position i has the fixed code [H_M[i], H_M[i] ∘ d_c], one bit a number and never stored;
    the projection A (2M, H), the gain g and the bias b (V,) are learned. With one half of the code alone A is (M, H).

    In the basis of the families what is trained is W with A = H_M W / M in each half: the first half adds g W_i x to
    the logits of family i, so that an optimizer with a step size for each number, as Adam, meets every family by
    itself. In that of the codes A itself is trained, each of whose numbers takes part in all V logits. Both reach the
    same logits.

    Args:
        hidden_size: H.
        slots: (V,) c·M + i of each word, from `embeddings.methods.walsh.slots`; by order of ids if None.
        vocabulary_size: V.
        families: M, a power of two.
        halves: ``both``, or ``shared`` or ``own`` alone.
        basis: ``families`` or ``codes``, of the trained numbers.
        rank: R. A learned map (R, H) then stands in front: x above is what it gives, and A is (2M, R). None: no map,
            and R is H.
        tied: the input vector of a word is the sum of its own and the row of its family.
        head_words: (K,) ids of words with a trained row each: D_w · x is added to their logits, with D (K, R) from
            zero. They are in one softmax with all others.
        in_state_dict: whether the slots are a part of the state dict. A run says no, since it keeps them in a file.
        options: ``log_unigram``, ``precision`` and ``bias``, as of `OutputLayer`.

    Raises:
        InputError: ``families`` is no power of two, two words have one slot, or another argument is none of these.

    >>> head = WalshOutput(512, 33_278, families=1024)
    >>> sum(parameter.numel() for parameter in head.parameters())  # A, g and b
    1081855
    >>> x, targets = torch.randn(2, 3, 512), torch.randint(33_278, (2, 3))
    >>> loss = head.loss(x, targets)
    >>> torch.testing.assert_close(loss, F.cross_entropy(head(x).flatten(0, 1), targets.flatten()))
    """

    slots: Tensor
    signs: Tensor
    head_words: Tensor
    ID_BUFFERS = ("head_words",)

    def __init__(
        self,
        hidden_size: int,
        vocabulary_size: int,
        families: int = Options.families,
        *,
        slots: Tensor | None = None,
        halves: str = "both",
        basis: str = "families",
        rank: int | None = None,
        tied: bool = False,
        head_words: Tensor | None = None,
        in_state_dict: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(hidden_size, vocabulary_size, **options)
        for name, value, known in (("halves", halves, HALVES), ("basis", basis, BASES)):
            if value not in known:
                raise unknown_name(name, name, value, known)
        families = require_count("families", families)
        if families & (families - 1):
            raise InputError("families", "not a power of two", found=families)
        if vocabulary_size > row_count(families):
            expected = f"at least {enough_columns(vocabulary_size):,}"
            raise InputError("families", f"too few for {vocabulary_size:,} words", found=families, expected=expected)
        self.families, self.halves, self.basis, self.tied = families, halves, basis, tied
        slots = torch.arange(vocabulary_size) if slots is None else as_tensor(slots, "slots")
        if slots.is_floating_point():
            raise InputError("slots", "not whole numbers", found=slots.dtype, expected="the slot of each word")
        slots = slots.long().clone()
        self.register_buffer("signs", self._signs_for(slots), persistent=False)
        self.register_buffer("slots", slots, persistent=in_state_dict)
        self._words: Tensor | None = None
        width = hidden_size if rank is None else require_count("rank", rank)
        self.map = joining_projection(hidden_size, width, always=rank is not None)
        if self.map is not None:
            nn.init.normal_(self.map.weight, std=hidden_size**-0.5)  # so that x keeps its length per number
        rows = families * (2 if halves == "both" else 1)
        # Then a logit starts with the deviation √2 ‖x‖/√H at any M and R, in either basis.
        deviation = (width * (families if basis == "codes" else 1)) ** -0.5
        self.weight = nn.Parameter(torch.randn(rows, width) * deviation)
        self.gain = nn.Parameter(torch.ones(()))
        self.head: nn.Parameter | None = None
        if head_words is not None:
            head_words = as_tensor(head_words, "head_words")
            require_head(head_words, vocabulary_size)
            self.head = nn.Parameter(torch.zeros(len(head_words), width))
            self.register_buffer("head_words", head_words.clone())

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        count = options.pop("learned_words", 0)
        if count:
            options["head_words"] = given.most_frequent(count, vocabulary_size)
        return cls(hidden_size, vocabulary_size, **options)

    def _signs_for(self, slots: Tensor) -> Tensor:
        """d_c of as many blocks as the slots need: (blocks, M) ±1."""
        words = len(self.bias)
        if slots.dim() != 1 or not len(slots):
            raise InputError("slots", "not one for each word", found=list(slots.shape), expected=[words])
        blocks = int(slots.max()) // self.families + 1
        if len(slots) != words or blocks > words or wrong_ids(slots, blocks * self.families):
            what = f"not those of {words:,} words in {self.families:,} families, no two words in one"
            found = f"{len(slots):,} from {int(slots.min()):,} to {int(slots.max()):,}"
            raise InputError("slots", what, found=found)
        signs = torch.from_numpy(block_signs(blocks, self.families)).to(torch.get_default_dtype())
        return torch.ones_like(signs) if self.halves == "shared" else signs

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        signs = self.signs
        if (slots := state_dict.get(prefix + "slots")) is not None:
            try:
                signs = self._signs_for(slots)  # they may need another number of blocks than those of before
            except InputError as error:
                arguments[-1].append(f"{prefix}{error}")  # the messages of the error that torch raises
                return
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.signs, self._words = signs.to(self.signs), None

    @torch.no_grad()
    def start_at(self, vectors: Tensor) -> None:
        """Starts each family at the row of its word in block 0, its words alike: ``vectors`` (V, R).

        Raises:
            InputError: they have another shape.
        """
        expected = len(self.bias), self.weight.shape[1]
        if vectors.shape != expected:
            raise InputError("vectors", "not one for each word", found=tuple(vectors.shape), expected=expected)
        heads = self.slots < self.signs.shape[1]
        self.weight.zero_()
        self.weight[self.slots[heads]] = vectors[heads].to(self.weight)
        if self.basis == "codes":
            self.weight.copy_(self._in_codes(self.weight.t()).t())

    def input_rows(self, ids: Tensor) -> Tensor | None:
        """Of a tied layer W_i of the family i of each word, in the basis of the families: (…) ids → (…, R)."""
        if not self.tied:
            return None
        families = self.signs.shape[1]
        return F.embedding(self.slots[ids] % families, self.weight[:families])

    def projection(self) -> Tensor:
        """A: (2M, R) or (M, R), with H for R where there is no map."""
        weight = widened(self.weight)
        return weight if self.basis == "codes" else self._in_codes(weight.t()).t()

    def _in_codes(self, rows: Tensor) -> Tensor:
        """H_M / M on each half of each row: (n, 2M) or (n, M)."""
        families = self.signs.shape[1]
        return (walsh_hadamard(rows.unflatten(1, (-1, families))) / families).flatten(1)

    def codes(self) -> Tensor:
        """(V, 2M) or (V, M) ±1, built anew at each call, to look at and to compare with."""
        found = codes(self.slots.cpu().numpy(), self.signs.shape[1], self.halves)
        return torch.from_numpy(found).to(self.weight)

    def _mapped(self, hidden: Tensor) -> Tensor:
        """What A reads: (n, H) → (n, R)."""
        return hidden if self.map is None else self.map(hidden)

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        hidden = self._mapped(hidden)
        low = self.weight.dtype if self.weight.dtype in LOW_TYPES else None
        precision = autocast_type(hidden) or low or self.precision
        with without_autocast(hidden):
            weight, signs, gain = self.projection(), widened(self.signs), widened(self.gain)
            slots, bias = self.slots.index_select(0, targets), self._slot_bias()
            given = widened(hidden), weight, signs, bias, slots, gain, precision
            return projected_cross_entropy(*given, *self._head())

    def _head(self) -> tuple[()] | tuple[Tensor, Tensor]:
        """D (K, R) and the slots (K,) of its words; nothing where no row is trained."""
        return () if self.head is None else (widened(self.head), self.slots[self.head_words])

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        hidden = self._mapped(hidden)
        given = self._features(hidden), widened(self.signs), self._slot_bias(), self.slots.index_select(0, targets)
        if self.head is None:
            return block_hadamard_nll(*given)
        with without_autocast(hidden):
            return nll_with_rows(widened(hidden), *given, *self._head())

    def _logits(self, hidden: Tensor) -> Tensor:
        hidden = self._mapped(hidden)
        features = self._features(hidden)
        with without_autocast(hidden):
            logits = block_hadamard_logits(features, widened(self.signs), self._slot_bias())[:, self.slots]
        if self.head is None:
            return logits
        return logits.index_add_(1, self.head_words, widened(F.linear(hidden, self.head)))

    def _top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if self.head is not None:
            return super()._top_k(hidden, k)  # the trained rows are in no block
        features = self._features(self._mapped(hidden))
        with without_autocast(hidden):
            return block_hadamard_top_k(features, widened(self.signs), widened(self.bias), self._words_in_slots(), k)

    def _words_in_slots(self) -> Tensor:
        """(blocks · M,) int32: the word in each slot, or −1; made when first wanted, as training needs none."""
        if self._words is None or self._words.device != self.slots.device:
            ids = torch.arange(len(self.slots), dtype=torch.int32, device=self.slots.device)
            words = ids.new_full((self.signs.numel(),), -1)
            self._words = words.index_copy_(0, self.slots, ids)
        return self._words

    def relatives(self, word_id: int) -> list[int]:
        """The family of a word, its head first."""
        block, position = np.divmod(self.slots.cpu().numpy(), self.signs.shape[1])
        members = np.flatnonzero(position == position[word_id])
        found: list[int] = members[np.argsort(block[members])].tolist()
        return found

    def _features(self, hidden: Tensor) -> Tensor:
        """g · A x in float32 or better: (n, R) → (n, 2M) or (n, M)."""
        products = widened(F.linear(self.gain * hidden, self.weight))  # (n, 2M) or (n, M)
        if self.basis == "codes":
            return products
        with without_autocast(hidden):
            return self._in_codes(products)

    def _slot_bias(self) -> Tensor:
        """(blocks · M,): b where the words are."""
        bias = widened(self.bias)
        return bias.new_full((self.signs.numel(),), UNUSED).index_copy(0, self.slots, bias)
