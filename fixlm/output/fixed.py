"""The paper's layer: a fixed output matrix, a learned scale and a learned bias."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

import embeddings
from embeddings.errors import InputError
from fixlm.output.cross_entropy import dense_loss, widened
from fixlm.output.kernels.linear_cross_entropy import Head
from fixlm.output.layer import DenseOutput, Ingredients, joining_projection, wrong_ids
from fixlm.output.options import ALPHA_START, LEARNED_WORDS_SCALE

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
        word_scales: learn a scale r of each row: logits = α r ∘ Q x̂ + b. The rows then get the gradient of a trained
            matrix on the way, and the layer is as slow as one.
        head_words: (M,) ids of the words whose rows are trained: logits = α (s Q + D) x̂ + b with the rows of D at
            those words from zero, and 0 at all others. α starts at a s-th of its start.
        learned_words_scale: s; it has no effect where no row is trained.
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
    head_words: Tensor

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
        vectors = _unit_rows(vectors)
        super().__init__(hidden_size, *vectors.shape, **options)
        self.register_buffer("vectors", vectors, persistent=in_state_dict)
        self.scales = nn.Parameter(torch.ones(len(vectors))) if word_scales else None
        self.head: nn.Parameter | None = None
        self.scale = 1.0
        if head_words is not None:
            self.scale = learned_words_scale
            self.head = nn.Parameter(torch.zeros(len(head_words), vectors.shape[1]))
            self.register_buffer("head_words", head_words)
            self._find_places()
            with torch.no_grad():
                self.alpha /= self.scale

    def _find_places(self) -> None:
        places = self.head_words.new_full((len(self.vectors),), -1)
        places[self.head_words] = torch.arange(len(self.head_words), device=places.device)
        self.head_places = places  # no buffer, since those are counted as numbers of the model

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        if wrong := wrong_ids(state_dict.get(f"{prefix}head_words"), len(self.vectors)):
            arguments[-1].append(f"{prefix}head_words: {wrong}")  # the messages of the error that torch raises
            return
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if self.head is not None:
            self._find_places()

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        name, vectors = given.method or "fixed", given.vectors
        if vectors is None:
            dim = given.output_dim or hidden_size
            vectors = _vectors_by_rule(name, vocabulary_size, dim, given.matrix_seed)
        if len(vectors) != vocabulary_size:
            raise InputError(name, "the matrix has another vocabulary", found=len(vectors), expected=vocabulary_size)
        count, scale = options.pop("learned_words", 0), options.pop("learned_words_scale", LEARNED_WORDS_SCALE)
        if count:
            words = given.most_frequent(count, vocabulary_size)
            options |= {"head_words": words, "learned_words_scale": scale}
        return cls(hidden_size, vectors, **options)

    def features(self, hidden: Tensor) -> Tensor:
        features = super().features(hidden)
        # The rows are s·Q + D; reading Q + D/s, fixed rows are used as they are stored.
        return features if self.scale == 1 else self.scale * features

    def matrix(self) -> Tensor:
        if self.scales is not None:
            return self.scales[:, None] * self.vectors
        head = self._head()
        return self.vectors if head is None else self.vectors.index_add(0, head.ids, head.added)

    def _head(self) -> Head | None:
        """D/s, which the rows of the trained words have more than Q."""
        if self.head is None:
            return None
        return Head(widened(self.head) / self.scale, self.head_words, self.head_places.to(self.head.device))

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        weight = self.vectors if self.scales is None else self.matrix()
        return dense_loss(self.features(hidden), weight, self.bias, targets, self.precision, self._head())

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Tensor) -> Tensor:
        order = folds.argsort(stable=True)
        features, targets = self.features(hidden)[order], targets[order]
        sizes = folds.bincount(minlength=len(rows)).tolist()
        precision = self.precision or features.dtype  # and not that in which the rows are kept
        if self.scales is None:
            return dense_loss(features, rows, self.bias, targets, precision, self._head(), sizes)
        parts = [
            dense_loss(own, self.scales[:, None] * row, self.bias, chosen, precision) * len(own)
            for own, row, chosen in zip(features.split(sizes), rows, targets.split(sizes), strict=True)
            if len(own)
        ]
        return torch.stack(parts).sum() / len(targets)


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
