"""The paper's layer: a fixed output matrix, a learned scale and a learned bias."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

import embeddings
from embeddings.errors import InputError
from fixlm.output.kernels.linear_cross_entropy import Head, linear_cross_entropy
from fixlm.output.layer import DenseOutput, Ingredients, joining_projection, wrong_ids
from fixlm.output.options import ALPHA_START, LEARNED_WORDS_SCALE

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
        word_scales: learn a scale r of each row: logits = α r ∘ Q x̂ + b. The rows then get the gradient of a trained
            matrix on the way, and the layer is as slow as one.
        head_words: (M,) ids of the words whose rows are trained: logits = α (s Q + D) x̂ + b with the rows of D at
            those words from zero, and 0 at all others. α starts at a s-th of its start.
        learned_words_scale: s; it has no effect where no row is trained.
        options: those of `ScaledOutput`.
    """

    vectors: Tensor
    head_words: Tensor

    def __init__(
        self,
        hidden_size: int,
        vectors: Tensor,
        *,
        word_scales: bool = False,
        head_words: Tensor | None = None,
        learned_words_scale: float = LEARNED_WORDS_SCALE,
        **options: Any,
    ) -> None:
        super().__init__(hidden_size, *vectors.shape, **options)
        self.register_buffer("vectors", vectors, persistent=False)
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
        return Head(self.head / self.scale, self.head_words, self.head_places.to(self.head.device))

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        weight = self.vectors if self.scales is None else self.matrix()
        features = self.features(hidden)
        return linear_cross_entropy(features, weight, self.bias, targets, self.precision, self._head())

    def _loss_in_folds(self, hidden: Tensor, targets: Tensor, folds: Tensor, rows: Tensor) -> Tensor:
        order = folds.argsort(stable=True)
        features, targets = self.features(hidden)[order], targets[order]
        sizes = folds.bincount(minlength=len(rows)).tolist()
        if self.scales is None:
            return linear_cross_entropy(features, rows, self.bias, targets, self.precision, self._head(), sizes)
        parts = [
            linear_cross_entropy(own, self.scales[:, None] * row, self.bias, chosen, self.precision) * len(own)
            for own, row, chosen in zip(features.split(sizes), rows, targets.split(sizes), strict=True)
            if len(own)
        ]
        return torch.stack(parts).sum() / len(targets)


def _vectors_by_rule(name: str, vocabulary_size: int, dim: int, seed: int) -> Tensor:
    """A matrix that depends on no text: (V, N)."""
    if name not in embeddings.names() or embeddings.get(name).NEEDS_CORPUS or name == "pretrained":
        raise InputError(name, "is built from text", fix="pass vectors=, (V, N), from embeddings.build")
    words = [str(word) for word in range(vocabulary_size)]
    statistics = embeddings.CorpusStatistics(words, np.ones(vocabulary_size, dtype=np.int64))
    return torch.from_numpy(embeddings.build(name, statistics, dim, seed).vectors)
