"""The paper's layer with Hadamard codewords, by fast transforms: nothing of (V, N) is stored or multiplied."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from embeddings.methods.hadamard import order_for, signs_for, sylvester_rows
from fixlm.output.cross_entropy import widened, without_autocast
from fixlm.output.ingredients import Ingredients
from fixlm.output.kernels.block_hadamard import (
    UNUSED,
    block_hadamard_cross_entropy,
    block_hadamard_logits,
    block_hadamard_nll,
)
from fixlm.output.kernels.tiles import loss_by_tiles
from fixlm.output.kernels.top_k import block_hadamard_top_k
from fixlm.output.scaled import ScaledOutput


class HadamardOutput(ScaledOutput):
    """logits = α Q x̂ + b as in `FixedOutput`, Q the unit rows of `embeddings.methods.hadamard` (V, N).

    The ⌈V/P⌉ blocks of P = 2^m ≥ N codewords are one transform each, of features padded with zeros from N to P. The
    word with id c·P + i is in slot c·P + i; slots from V on have no word.

    Args:
        hidden_size: H.
        vocabulary_size: V.
        dim: N; H if None.
        options: those of `ScaledOutput`.

    Raises:
        InputError: the rule has fewer than V different rows.

    >>> head = HadamardOutput(512, 33_278)  # in place of nn.Linear(512, 33_278)
    >>> sum(parameter.numel() for parameter in head.parameters())  # b and α
    33279
    >>> x, targets = torch.randn(5, 512), torch.tensor([4, 1, -100, 33_277, 0])
    >>> torch.testing.assert_close(head.loss(x, targets), F.cross_entropy(head(x), targets))
    """

    signs: Tensor

    def __init__(self, hidden_size: int, vocabulary_size: int, dim: int | None = None, **options: Any) -> None:
        dim = hidden_size if dim is None else dim
        super().__init__(hidden_size, vocabulary_size, dim, **options)
        signs = torch.from_numpy(signs_for(vocabulary_size, dim))
        self.register_buffer("signs", signs.to(torch.get_default_dtype()), persistent=False)
        self.scale = dim**-0.5  # of rows of norm 1

    def matrix(self) -> Tensor:
        """Q: (V, N), built anew at each call, to look at and to compare with."""
        size, order = len(self.bias), self.signs.shape[1]
        rows = torch.from_numpy(sylvester_rows(min(size, order), self.dim)).to(self.signs)
        codewords = self.signs[:, None, : self.dim] * rows  # (blocks, P, N)
        return self.scale * codewords.flatten(0, 1)[:size]

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        # The rule makes the codewords again; vectors that were built tell only how long they are.
        dim = given.output_dim or hidden_size if given.vectors is None else given.vectors.shape[1]
        return cls(hidden_size, vocabulary_size, dim, **options)

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return loss_by_tiles(self._tile_loss, hidden, targets, self.parameters())

    def _tile_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        features, signs = self._padded(hidden)
        with without_autocast(hidden):
            return block_hadamard_cross_entropy(features, signs, self._slot_bias(), self._slots(targets), self.scale)

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        features, signs = self._padded(hidden)
        return block_hadamard_nll(features, signs, self._slot_bias(), self._slots(targets), self.scale)

    def _logits(self, hidden: Tensor) -> Tensor:
        features, signs = self._padded(hidden)
        with without_autocast(hidden):
            slots = block_hadamard_logits(features, signs, widened(self.bias), self.scale)
        return slots[:, : len(self.bias)]

    def _top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        features, signs = self._padded(hidden)
        with without_autocast(hidden):
            return block_hadamard_top_k(features, signs, widened(self.bias), None, k, self.scale)

    def _padded(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Features with zeros from N to P, (n, P), and signs; in float32 or better."""
        features = F.pad(self.features(hidden), (0, order_for(self.dim) - self.dim))  # (n, N) → (n, P)
        return widened(features), widened(self.signs)

    def _slots(self, targets: Tensor) -> Tensor:
        """The ids; off the CPU, where nobody has looked at them, by an index that refuses those of no word."""
        if targets.device.type == "cpu":
            return targets
        return torch.arange(len(self.bias), device=targets.device).index_select(0, targets)

    def _slot_bias(self) -> Tensor:
        bias = widened(self.bias)
        return F.pad(bias, (0, self.signs.numel() - len(bias)), value=UNUSED)  # (V,) → (blocks · P,)
