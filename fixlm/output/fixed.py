"""The paper's layer: a fixed output matrix, a learned scale and a learned bias."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

import embeddings
from embeddings.errors import InputError
from fixlm.output.kernels.linear_cross_entropy import linear_cross_entropy
from fixlm.output.layer import DenseOutput, Ingredients, joining_projection
from fixlm.output.options import ALPHA_START

NORM_EPSILON = 1e-6
"""Keeps x/‖x‖ and its gradient finite at x = 0, and is far below the norm of any real feature vector."""


class ScaledOutput(DenseOutput):
    """logits = α Q x̂ + b with x̂ = x/‖x‖ (Hoffer, Hubara and Soudry 2018), Q (V, N) fixed, with rows of norm 1.

    Where H and N differ, or if asked for, a learned map m comes first: x̂ = m(x)/‖m(x)‖ with m(x) = Px, P (N, H), or
    the perceptron P gelu(Wx + c), W (K, H), P (N, K).

    Args:
        hidden_size: H.
        vocabulary_size: V.
        dim: N.
        map: ``auto`` (linear where H and N differ, none where they do not), ``linear`` or ``mlp``.
        map_size: K of ``mlp``; 4·H if None.
        alpha: a value to fix α at; learned if None.
        alpha_start: where a learned α starts.
        normalize: False leaves x as it is, logits = α Q x + b.
        options: ``log_unigram`` and ``precision``, as of `OutputLayer`.
    """

    alpha: Tensor

    def __init__(
        self,
        hidden_size: int,
        vocabulary_size: int,
        dim: int,
        *,
        map: str = "auto",
        map_size: int | None = None,
        alpha: float | None = None,
        alpha_start: float = ALPHA_START,
        normalize: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(hidden_size, vocabulary_size, **options)
        self.dim = dim
        width = hidden_size  # of what the projection reads
        self.hidden_map: nn.Linear | None = None
        if map == "mlp":
            width = map_size or 4 * hidden_size
            self.hidden_map = nn.Linear(hidden_size, width)
        self.projection = joining_projection(width, dim, always=map != "auto")
        self.normalize = normalize
        if alpha is None:
            self.alpha = nn.Parameter(torch.tensor(float(alpha_start)))
        else:
            self.register_buffer("alpha", torch.tensor(float(alpha)))

    def features(self, hidden: Tensor) -> Tensor:
        if self.hidden_map is not None:
            hidden = nn.functional.gelu(self.hidden_map(hidden))
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
        word_scales: learn a scale s of each row: logits = α s ∘ Q x̂ + b. The rows then get the gradient of a trained
            matrix on the way, and the layer is as slow as one.
        options: those of `ScaledOutput`.
    """

    vectors: Tensor

    def __init__(self, hidden_size: int, vectors: Tensor, *, word_scales: bool = False, **options: Any) -> None:
        super().__init__(hidden_size, *vectors.shape, **options)
        self.register_buffer("vectors", vectors, persistent=False)
        self.scales = nn.Parameter(torch.ones(len(vectors))) if word_scales else None

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        name, vectors = given.method or "fixed", given.vectors
        if vectors is None:
            dim = given.output_dim or hidden_size
            vectors = _vectors_by_rule(name, vocabulary_size, dim, given.matrix_seed)
        if len(vectors) != vocabulary_size:
            raise InputError(name, "the matrix has another vocabulary", found=len(vectors), expected=vocabulary_size)
        return cls(hidden_size, vectors, **options)

    def matrix(self) -> Tensor:
        return self._with_trained(self.vectors)

    def _with_trained(self, rows: Tensor) -> Tensor:
        """The weight (V, N) that fixed rows make with what is trained of it."""
        return rows if self.scales is None else self.scales[:, None] * rows

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Tensor) -> Tensor:
        """One pass of the fused loss for the tokens of each fold, weighted by how many they are."""
        order = folds.argsort(stable=True)
        sizes = folds.bincount(minlength=len(rows)).tolist()
        features = self.features(hidden)[order].split(sizes)
        chosen = targets[order].split(sizes)
        kind = self.precision or hidden.dtype
        parts = [
            linear_cross_entropy(features[k], self._with_trained(rows[k].to(kind)), self.bias, chosen[k], kind) * size
            for k, size in enumerate(sizes)
            if size
        ]
        return torch.stack(parts).sum() / len(targets)


def _vectors_by_rule(name: str, vocabulary_size: int, dim: int, seed: int) -> Tensor:
    """A matrix that depends on no text: (V, N)."""
    if name not in embeddings.names() or embeddings.get(name).NEEDS_CORPUS or name == "pretrained":
        raise InputError(name, "is built from text", fix="pass vectors=, (V, N), from embeddings.build")
    words = [str(word) for word in range(vocabulary_size)]
    statistics = embeddings.CorpusStatistics(words, np.ones(vocabulary_size, dtype=np.int64))
    return torch.from_numpy(embeddings.build(name, statistics, dim, seed).vectors)
