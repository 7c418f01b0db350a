"""The paper's layer: a fixed output matrix, a learned scale and a learned bias."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from embeddings.errors import InputError
from fixlm.output.cross_entropy import as_tensor, dense_loss, dense_nll, require_head, widened
from fixlm.output.kernels.head_and_tail import ROWS, Head, Tail
from fixlm.output.layer import OutputLayer
from fixlm.output.options import LEARNED_WORDS_SCALE
from fixlm.output.scaled import NORM_EPSILON, ScaledOutput

UNIT_TOLERANCE = 1e-5
"""Norms that float32 arithmetic leaves when it scales a row to 1 are within this; such rows keep their bits."""


class FixedOutput(ScaledOutput):
    """The layer for any output matrix.

    Args:
        hidden_size: H.
        vectors: Q, (V, N): a tensor, a numpy array, or what has one as ``vectors`` (an `OutputMatrix`, gensim's
            KeyedVectors). Rows that are not of norm 1 are scaled to it. Never trained.
        word_scales: learn a scale r of each row: logits = α r ∘ Q x̂ + b. The rows then get the gradient of a trained
            matrix on the way, and the layer is as slow as one.
        head_words: (M,) ids of the words whose rows are trained: logits = α (s Q + D) x̂ + b with the rows of D at
            those words from zero, and 0 at all others. α starts at a s-th of its start.
        learned_words_scale: s; it has no effect where no row is trained.
        in_state_dict: whether Q is a part of the state dict. A run says no, since it keeps Q in a file of its own.
        options: those of `ScaledOutput`.

    Raises:
        InputError: the vectors are not a matrix, not finite, or have a row of zeros; ``head_words`` are not ids of
            different words; or ``word_scales`` are given beside them.

    >>> head = FixedOutput(512, torch.randn(1000, 300))  # a learned map 512 → 300 comes first
    >>> x, targets = torch.randn(4, 7, 512), torch.randint(1000, (4, 7))
    >>> head(x).shape
    torch.Size([4, 7, 1000])
    >>> loss = head.loss(x, targets)  # of the same logits, which are never held all at once
    >>> torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(head(x).flatten(0, 1), targets.flatten()))
    """

    vectors: Tensor
    head_words: Tensor
    ID_BUFFERS: ClassVar[tuple[str, ...]] = ("head_words",)

    def __init__(
        self,
        hidden_size: int,
        vectors: Any,
        *,
        word_scales: bool = False,
        head_words: Tensor | None = None,
        learned_words_scale: float = LEARNED_WORDS_SCALE,
        in_state_dict: bool = True,
        **options: Any,
    ) -> None:
        # What a state dict may fill is the layer's own.
        vectors = unit_rows(vectors, copy=in_state_dict)
        super().__init__(hidden_size, *vectors.shape, **options)
        if word_scales and head_words is not None:
            raise InputError("word_scales", "the trained rows have a length of their own", found=word_scales)
        self.register_buffer("vectors", vectors, persistent=in_state_dict)
        self.scales = nn.Parameter(torch.ones(len(vectors))) if word_scales else None
        self.head: nn.Parameter | None = None
        self.scale = 1.0
        if head_words is not None:
            head_words = as_tensor(head_words, "head_words")
            require_head(head_words, len(vectors))
            if not (scale := learned_words_scale) > 0:
                raise InputError("learned_words_scale", "out of range", found=scale, expected="above 0")
            self.scale = scale
            self.head = nn.Parameter(torch.zeros(len(head_words), vectors.shape[1]))
            self.register_buffer("head_words", head_words.clone())
            self._find_places()
            with torch.no_grad():
                self.alpha /= self.scale

    def _find_places(self) -> None:
        places = self.head_words.new_full((len(self.vectors),), -1)
        places[self.head_words] = torch.arange(len(self.head_words), device=places.device)
        self.head_places = places  # no buffer, since those are counted as numbers of the model

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if self.head is not None:
            self._find_places()

    def features(self, hidden: Tensor) -> Tensor:
        features = super().features(hidden)
        # The rows are s·Q + D; reading Q + D/s, fixed rows are used as they are stored.
        return features if self.scale == 1 else self.scale * features

    def matrix(self) -> Tensor:
        if self.scales is not None:
            return self.scales[:, None] * self.vectors.to(self.scales.dtype)
        if (head := self._head()) is None:
            return self.vectors
        with ROWS:
            return self.vectors.index_add(0, head.ids, head.added.to(self.vectors.dtype))

    def _head(self) -> Head | None:
        """D/s, which the rows of the trained words have more than Q."""
        if self.head is None:
            return None
        return Head(widened(self.head) / self.scale, self.head_words, self.head_places.to(self.head.device))

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        weight = self.vectors if self.scales is None else self.matrix()
        return dense_loss(self.features(hidden), weight, self.bias, targets, self.precision, self._head())

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Any) -> Tensor:
        hidden, targets, sizes = by_fold(hidden, targets, folds, len(rows))
        features = self.features(hidden)
        precision = self.precision or features.dtype  # and not that in which the rows are kept
        if self.scales is None:
            return dense_loss(features, rows, self.bias, targets, precision, self._head(), sizes)
        parts = [
            dense_loss(own, self.scales[:, None] * row, self.bias, chosen, precision) * len(own)
            for own, row, chosen in zip(features.split(sizes), rows, targets.split(sizes), strict=True)
            if len(own)
        ]
        return torch.stack(parts).sum() / len(targets)


class TailedOutput(FixedOutput):
    """The layer with short rows for all words but the head's: one softmax over both (after Grave et al. 2017).

    The head has the logits α (s Q + D) x̂ + b of `FixedOutput`. Every other word has β s q · ŷ + b: q is the first N'
    numbers of its row of Q, scaled to norm 1, and y = P x with a learned map P (N', H) that starts as the first rows of
    the identity matrix. Without normalisation ŷ is y. β starts where α does.

    Args:
        hidden_size: H.
        vectors: Q, (V, N).
        tail_dim: N', less than N.
        head_words: (M,) ids of the words of the head, M less than V.
        tail_words: (V − M,) ids of all others, in the order in which their rows are to stand; by id if None.
        options: those of `FixedOutput`.

    Raises:
        InputError: no word or no number would be cut off, or nothing is left of a row.
    """

    tail_alpha: Tensor
    tail_words: Tensor | None

    def __init__(
        self,
        hidden_size: int,
        vectors: Any,
        *,
        tail_dim: int,
        head_words: Tensor,
        tail_words: Tensor | None = None,
        **options: Any,
    ) -> None:
        super().__init__(hidden_size, vectors, head_words=head_words, **options)
        self.tail_dim = tail_dim
        if tail_dim > self.longest_tail:
            expected = f"at most {self.longest_tail}"
            raise InputError("tail_dim", "the rows of the matrix are no longer", found=tail_dim, expected=expected)
        if len(head_words) == len(self.vectors):
            raise InputError("learned_words", "no word is left for the tail", found=len(head_words))
        self.register_buffer("tail_words", tail_words)  # a buffer that is None is in no state dict
        self._find_order()
        try:
            unit_rows(self.tail_rows)
        except InputError:
            raise InputError("tail_dim", "nothing is left of some rows", found=tail_dim, fix="longer rows") from None
        self.tail_map = nn.Linear(hidden_size, tail_dim, bias=False)
        nn.init.eye_(self.tail_map.weight)
        start = self.alpha.detach().clone()
        if isinstance(self.alpha, nn.Parameter):
            self.tail_alpha = nn.Parameter(start)
        else:
            self.register_buffer("tail_alpha", start)

    @property
    def longest_tail(self) -> int:
        """The largest N' there can be."""
        return self.dim - 1

    def _find_order(self) -> None:
        others = (self.head_places < 0).nonzero().squeeze(1) if self.tail_words is None else self.tail_words
        self.order = torch.cat([self.head_words, others])  # the words as the kernel has them, the head first
        self.ranks = self.order.argsort()
        self.tail_rows = self._cut(self.vectors)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._find_order()

    def _cut(self, rows: Tensor) -> Tensor:
        """(V, N) → (V − M, N'), of norm 1 or 0."""
        others = self.order[len(self.head_words) :].to(rows.device)
        cut = rows[..., : self.tail_dim].index_select(-2, others)
        return nn.functional.normalize(widened(cut), dim=-1).to(rows.dtype)

    def fold_rows(self, rows: Tensor) -> Any:
        tail = torch.stack([self._cut(each) for each in rows])  # one by one, since a cut takes several copies
        return rows.index_select(-2, self.head_words.to(rows.device)), tail

    def _follow(self) -> None:
        """Brings what is no buffer to the device and the type of the vectors."""
        with torch.inference_mode(False):  # what is moved there could serve no training later
            self.order, self.ranks = self.order.to(self.vectors.device), self.ranks.to(self.vectors.device)
            self.tail_rows = self.tail_rows.to(self.vectors)

    def _tail(self, hidden: Tensor, rows: Tensor | None = None) -> Tail:
        features = self.tail_map(hidden)
        if self.normalize:
            features = nn.functional.normalize(features, dim=-1, eps=NORM_EPSILON)
        return Tail(self.scale * self.tail_alpha * features, self.tail_rows if rows is None else rows)

    def _in_order(self) -> tuple[Head, Tensor]:
        """The head as the kernel has it, whose rows come first, and the bias in its order."""
        assert self.head is not None
        self._follow()
        ids = torch.arange(len(self.head), device=self.head.device)
        places = ids.new_full((len(self.bias),), -1).index_copy_(0, ids, ids)
        return Head(widened(self.head) / self.scale, ids, places), self.bias.index_select(0, self.order)

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        (head, bias), rows = self._in_order(), self.vectors.index_select(0, self.head_words)
        features, tail = self.features(hidden), self._tail(hidden)
        return dense_loss(features, rows, bias, self.ranks.index_select(0, targets), self.precision, head, None, tail)

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Any) -> Tensor:
        hidden, targets, sizes = by_fold(hidden, targets, folds, len(rows[0]))
        (head, bias), features, tail = self._in_order(), self.features(hidden), self._tail(hidden, rows[1])
        precision = self.precision or features.dtype
        return dense_loss(features, rows[0], bias, self.ranks.index_select(0, targets), precision, head, sizes, tail)

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        head, bias = self._in_order()
        rows = self._head_rows(head)
        return dense_nll(self.features(hidden), rows, bias, self.ranks.index_select(0, targets), self._tail(hidden))

    def _logits(self, hidden: Tensor) -> Tensor:
        (head, _), (tail, rows) = self._in_order(), self._tail(hidden)
        both = torch.cat(
            [self.features(hidden) @ self._head_rows(head).t().to(hidden.dtype), tail @ rows.t().to(tail.dtype)], dim=1
        )
        return both.index_select(1, self.ranks) + self.bias

    def _head_rows(self, head: Head) -> Tensor:
        """Q + D/s of the head: (M, N)."""
        return self.vectors.index_select(0, self.head_words) + head.added.to(self.vectors.dtype)

    def matrix(self) -> Tensor:
        """Rows of H numbers, since those of head and tail differ in length.

        Raises:
            InputError: what stands before them is no linear map.
        """
        if self.normalize or self.hidden_map is not None:
            what = "x or P x is normalised, or goes through a perceptron, so that no matrix gives the logits"
            raise InputError("output layer", what, found="--tail-dim")
        return OutputLayer.word_matrix(self)


def by_fold(hidden: Tensor, targets: Tensor, folds: Tensor, groups: int) -> tuple[Tensor, Tensor, list[int]]:
    """Tokens (n, H) and targets (n,) in order of their folds (n,), and how many each of the groups has."""
    order = folds.argsort(stable=True)
    return hidden[order], targets[order], folds.bincount(minlength=groups).tolist()


def unit_rows(vectors: Any, *, copy: bool = False) -> Tensor:
    """(V, N) rows of norm 1, without gradient: the very numbers that were given where their rows are so already.

    Args:
        copy: in memory of their own.
    """
    rows = getattr(vectors, "vectors", vectors)
    if isinstance(rows, np.ndarray):
        if not rows.flags.writeable:  # a trained head is added to rows for a moment
            rows = rows.copy()
        if rows.dtype == np.float64:  # numpy's default, which nobody chose
            rows = as_tensor(rows, "vectors").to(torch.get_default_dtype())
    rows = as_tensor(rows, "vectors")
    rows = rows.detach() if rows.requires_grad else rows
    if rows.dim() != 2 or not rows.is_floating_point():
        found = f"{list(rows.shape)} of {rows.dtype}"
        raise InputError("vectors", "not a matrix of vectors", found=found, expected="[V, N] of floating point")
    if not rows.numel():
        raise InputError("vectors", "there is none", found=list(rows.shape))
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))
    if len(wrong := (~norms.isfinite()).nonzero()):
        raise InputError("vectors", "values that are not finite", found=f"row {int(wrong[0])}")
    if len(wrong := (norms == 0).nonzero()):
        found = f"{len(wrong)} of {len(rows)}, the first is row {int(wrong[0])}"
        raise InputError("vectors", "rows of zeros, which have no direction", found=found)
    if (norms - 1).abs().max() <= UNIT_TOLERANCE:
        return rows.clone() if copy else rows
    return (rows / norms[:, None]).to(rows.dtype)
