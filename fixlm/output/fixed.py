"""The paper's layer: a fixed output matrix, a learned scale and a learned bias."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

import embeddings
from embeddings.errors import InputError
from fixlm.output.layer import DenseOutput, Ingredients, joining_projection
from fixlm.output.options import ALPHA_START

NORM_EPSILON = 1e-6
"""Keeps x/‖x‖ and its gradient finite at x = 0, and is far below the norm of any real feature vector."""
UNIT_TOLERANCE = 1e-5
"""Norms that float32 arithmetic leaves when it scales a row to 1 are within this; such rows keep their bits."""


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
        options: ``log_unigram``, ``precision`` and ``bias``, as of `OutputLayer`.
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
        vectors: Q, (V, N): a tensor, a numpy array, or what has one as ``vectors`` (an `OutputMatrix`, gensim's
            KeyedVectors). Rows that are not of norm 1 are scaled to it. Never trained.
        word_scales: learn a scale s of each row: logits = α s ∘ Q x̂ + b. The rows then get the gradient of a trained
            matrix on the way, and the layer is as slow as one.
        in_state_dict: whether Q is a part of the state dict. A run says no, since it keeps Q in a file of its own.
        options: those of `ScaledOutput`.

    Raises:
        InputError: the vectors are not a matrix, not finite, or have a row of zeros.

    >>> head = FixedOutput(512, torch.randn(1000, 300))  # a learned map 512 → 300 comes first
    >>> x, targets = torch.randn(4, 7, 512), torch.randint(1000, (4, 7))
    >>> head(x).shape
    torch.Size([4, 7, 1000])
    >>> loss = head.loss(x, targets)  # of the same logits, which are never held all at once
    >>> torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(head(x).flatten(0, 1), targets.flatten()))
    """

    vectors: Tensor

    def __init__(
        self, hidden_size: int, vectors: Any, *, word_scales: bool = False, in_state_dict: bool = True, **options: Any
    ) -> None:
        rows = _unit_rows(vectors)
        super().__init__(hidden_size, *rows.shape, **options)
        self.register_buffer("vectors", rows, persistent=in_state_dict)
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
        return self.vectors if self.scales is None else self.scales[:, None] * self.vectors


def _unit_rows(vectors: Any) -> Tensor:
    """(V, N) rows of norm 1: the very tensor that was given where its rows are so already."""
    rows = torch.as_tensor(getattr(vectors, "vectors", vectors))
    if rows.dim() != 2 or not rows.is_floating_point():
        found = f"{list(rows.shape)} of {rows.dtype}"
        raise InputError("vectors", "not a matrix of vectors", found=found, expected="[V, N] of floating point")
    norms = torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))
    if not norms.isfinite().all():
        raise InputError("vectors", "values that are not finite", found=f"row {int((~norms.isfinite()).nonzero()[0])}")
    if not norms.all():
        found = f"{int((norms == 0).sum())} of {len(rows)}, the first is row {int((norms == 0).nonzero()[0])}"
        raise InputError("vectors", "rows of zeros, which have no direction", found=found)
    if (norms - 1).abs().max() <= UNIT_TOLERANCE:
        return rows
    return (rows / norms[:, None]).to(rows.dtype)


def _vectors_by_rule(name: str, vocabulary_size: int, dim: int, seed: int) -> Tensor:
    """A matrix that depends on no text: (V, N)."""
    if name not in embeddings.names() or embeddings.get(name).NEEDS_CORPUS or name == "pretrained":
        raise InputError(name, "is built from text", fix="pass vectors=, (V, N), from embeddings.build")
    words = [str(word) for word in range(vocabulary_size)]
    statistics = embeddings.CorpusStatistics(words, np.ones(vocabulary_size, dtype=np.int64))
    return torch.from_numpy(embeddings.build(name, statistics, dim, seed).vectors)
