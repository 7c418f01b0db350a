"""The contract of an output layer, and what all layers with a dense (V, D) weight share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fixlm.output.kernels.linear_cross_entropy import linear_cross_entropy, linear_logits, linear_nll


class OutputLayer(nn.Module, ABC):
    """From hidden states to the probability of the next word.

    H is the hidden size, V the vocabulary size, n the number of tokens.

    Args:
        vocabulary_size: V.
        log_unigram: (V,) log probability of each word, the start value of the bias; zeros if None.
        precision: type of the matrix products of `loss`; that of ``hidden`` if None.
    """

    def __init__(
        self, vocabulary_size: int, log_unigram: Tensor | None = None, precision: torch.dtype | None = None
    ) -> None:
        super().__init__()
        start = torch.zeros(vocabulary_size) if log_unigram is None else log_unigram.float().clone()
        self.bias = nn.Parameter(start)
        self.precision = precision

    @abstractmethod
    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(n, H), (n,) → mean negative log-likelihood in nats; differentiable, keeps no (n, V) array."""

    @abstractmethod
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(n, H), (n,) → (n,) nats; no gradient, keeps no (n, V) array, always in the precision of ``hidden``."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """(n, H) → (n, V)."""


class DenseOutput(OutputLayer):
    """An output layer with logits = f(x) Wᵀ + b, for a weight (V, D) and features f(x) of length D."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """W: (V, D)."""

    @abstractmethod
    def features(self, hidden: Tensor) -> Tensor:
        """f: (n, H) → (n, D)."""

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return linear_cross_entropy(self.features(hidden), self.matrix(), self.bias, targets, self.precision)

    @torch.no_grad()
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return linear_nll(self.features(hidden), self.matrix(), self.bias, targets)

    def logits(self, hidden: Tensor) -> Tensor:
        return linear_logits(self.features(hidden), self.matrix(), self.bias)


def joining_projection(hidden_size: int, dim: int) -> nn.Linear | None:
    """The learned map H → D where the two differ, else None."""
    return nn.Linear(hidden_size, dim, bias=False) if hidden_size != dim else None
