"""Output layers, by name.

``learned`` and ``tied`` are trained; every method of `embeddings` (and any matrix at hand) makes a fixed layer.
Importing this package is cheap: torch comes with the first layer that is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import embeddings
from fixlm.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch

    from fixlm.output.layer import OutputLayer

TRAINED = ("learned", "tied")
"""The layers without an output matrix."""


def names() -> list[str]:
    """What ``--output-embed`` takes besides a path to vectors."""
    return [*TRAINED, *(name for name in embeddings.names() if name != "pretrained")]


def build(
    name: str,
    hidden_size: int,
    vocabulary_size: int,
    *,
    vectors: torch.Tensor | None = None,
    output_dim: int | None = None,
    matrix_seed: int = 1,
    input_embedding: torch.nn.Embedding | None = None,
    walsh_families: int | None = None,
    slots: torch.Tensor | None = None,
    **options: Any,
) -> OutputLayer:
    """An output layer, without a run or a corpus where it needs none.

    Args:
        name: ``learned``, ``tied`` or the method of an output matrix.
        hidden_size: H.
        vocabulary_size: V.
        vectors: (V, N) the output matrix; built by the method's rule if None.
        output_dim: N of a matrix that is built here; H if None.
        matrix_seed: seed of a matrix that is built here.
        input_embedding: what ``tied`` shares its weight with.
        walsh_families: M of ``walsh``; 2,048 if None.
        slots: (V,) where ``walsh`` has each word, from `embeddings.methods.walsh.slots`; by rank if None.
        options: what the layer's constructor takes (``log_unigram``, ``alpha``, ``normalize``, …).

    Raises:
        InputError: the name is unknown, or the layer lacks vectors or an input embedding.
    """
    if name not in [*names(), "pretrained"]:
        raise unknown_name("output layer", "output layer", name, names())
    if name == "learned":
        return _load("fixlm.output.learned:LearnedOutput")(hidden_size, vocabulary_size, **options)
    if name == "tied":
        if input_embedding is None:
            raise InputError(
                "tied", "no input embedding to share", fix="pass input_embedding=nn.Embedding(…)"
            )
        return _load("fixlm.output.learned:TiedOutput")(hidden_size, input_embedding, **options)
    if name == "hadamard":
        dim = vectors.shape[1] if vectors is not None else output_dim or hidden_size
        return _load("fixlm.output.hadamard:HadamardOutput")(hidden_size, vocabulary_size, dim, **options)
    if name == "walsh":
        families = walsh_families or embeddings.get("walsh").Options().families
        layer = _load("fixlm.output.walsh:WalshOutput")
        return layer(hidden_size, vocabulary_size, families, slots=slots, **options)
    if vectors is None:
        vectors = _vectors_by_rule(name, vocabulary_size, output_dim or hidden_size, matrix_seed)
    if len(vectors) != vocabulary_size:
        raise InputError(
            name, "the matrix has another vocabulary", found=len(vectors), expected=vocabulary_size
        )
    return _load("fixlm.output.fixed:FixedOutput")(hidden_size, vectors, **options)


def _load(target: str) -> Callable[..., OutputLayer]:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _vectors_by_rule(name: str, vocabulary_size: int, dim: int, seed: int) -> torch.Tensor:
    """A matrix that depends on no text: (V, N)."""
    import numpy as np
    import torch

    if name == "pretrained" or embeddings.get(name).NEEDS_CORPUS:
        raise InputError(name, "is built from text", fix="pass vectors=, (V, N), from embeddings.build")
    words = [str(word) for word in range(vocabulary_size)]
    statistics = embeddings.CorpusStatistics(words, np.ones(vocabulary_size, dtype=np.int64))
    return torch.from_numpy(embeddings.build(name, statistics, dim, seed).vectors)
