"""The paper's layer: a fixed output matrix, a learned scale and a learned bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fixlm.output.base import DenseOutput, joining_projection

ALPHA_START = 16.0
"""|q · x̂| ≤ 1, so a softmax over V words needs a scale of about log V and more before it can be sure of one."""

NORM_EPSILON = 1e-6
"""Keeps x/‖x‖ and its gradient finite at x = 0, and is far below the norm of any real feature vector."""


class ScaledOutput(DenseOutput):
    """logits = α Q x̂ + b with x̂ = x/‖x‖ (Hoffer, Hubara and Soudry 2018), Q (V, N) fixed, with rows of norm 1.

    Where H and N differ, a learned projection comes first: x̂ = Px/‖Px‖.

    Args:
        hidden_size: H.
        vocabulary_size: V.
        dim: N.
        alpha: a value to fix α at; learned if None.
        alpha_start: where a learned α starts.
        normalize: False leaves x as it is, logits = α Q x + b.
        log_unigram: (V,) start of the bias; zeros if None.
        precision: type of the matrix products of `loss`.
    """

    alpha: Tensor

    def __init__(
        self,
        hidden_size: int,
        vocabulary_size: int,
        dim: int,
        *,
        alpha: float | None = None,
        alpha_start: float = ALPHA_START,
        normalize: bool = True,
        log_unigram: Tensor | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__(vocabulary_size, log_unigram, precision)
        self.dim = dim
        self.projection = joining_projection(hidden_size, dim)
        self.normalize = normalize
        if alpha is None:
            self.alpha = nn.Parameter(torch.tensor(float(alpha_start)))
        else:
            self.register_buffer("alpha", torch.tensor(float(alpha)))

    def features(self, hidden: Tensor) -> Tensor:
        if self.projection is not None:
            hidden = self.projection(hidden)
        if self.normalize:
            hidden = nn.functional.normalize(hidden, dim=-1, eps=NORM_EPSILON)
        return self.alpha * hidden  # scaling (n, N) features is V/N times cheaper than scaling (n, V) logits


class FixedOutput(ScaledOutput):
    """The layer for any output matrix.

    Args:
        hidden_size: H.
        vectors: Q, (V, N), rows of norm 1; a buffer, never trained. Not part of the state dict: a run stores it once.
        options: those of `ScaledOutput`.
    """

    vectors: Tensor

    def __init__(self, hidden_size: int, vectors: Tensor, **options: Any) -> None:
        super().__init__(hidden_size, *vectors.shape, **options)
        self.register_buffer("vectors", vectors, persistent=False)

    def matrix(self) -> Tensor:
        return self.vectors
