"""Which of the layers with a fixed matrix the options of a run describe, and the matrices that need no text."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

import embeddings
from embeddings.errors import InputError
from fixlm.output.clustered import ClusteredOutput
from fixlm.output.fixed import FixedOutput, TailedOutput
from fixlm.output.ingredients import Ingredients
from fixlm.output.options import LEARNED_WORDS_SCALE


class FixedByName:
    """What `fixlm.output.build` makes of the name of a matrix: a `FixedOutput`, or one with a tail."""

    @staticmethod
    def create(hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> FixedOutput:
        name, vectors = given.method or "fixed", given.vectors
        if vectors is None:
            dim = given.output_dim or hidden_size
            vectors = _vectors_by_rule(name, vocabulary_size, dim, given.matrix_seed)
        if len(vectors) != vocabulary_size:
            raise InputError(name, "the matrix has another vocabulary", found=len(vectors), expected=vocabulary_size)
        count, scale = options.pop("learned_words", 0), options.pop("learned_words_scale", LEARNED_WORDS_SCALE)
        tail_dim, clusters = options.pop("tail_dim", None), options.pop("tail_clusters", 0)
        if not count:
            if clusters or tail_dim is not None:
                raise InputError("learned_words", "only beside rows that are trained is there a tail", found=count)
            return FixedOutput(hidden_size, vectors, **options)
        head, options["learned_words_scale"] = given.most_frequent(count, vocabulary_size), scale
        if clusters:
            options |= {"tail_clusters": clusters, "tail_dim": tail_dim, "learned_words": len(head)}
            words = given.most_frequent(vocabulary_size, vocabulary_size)
            return ClusteredOutput(hidden_size, vectors, words=words, **options)
        if tail_dim is not None:
            return TailedOutput(hidden_size, vectors, head_words=head, tail_dim=tail_dim, **options)
        return FixedOutput(hidden_size, vectors, head_words=head, **options)


def _vectors_by_rule(name: str, vocabulary_size: int, dim: int, seed: int) -> Tensor:
    """A matrix that depends on no text: (V, N)."""
    if name not in embeddings.names() or embeddings.get(name).NEEDS_CORPUS or name == "pretrained":
        raise InputError(name, "is built from text", fix="pass vectors=, (V, N), from embeddings.build")
    words = [str(word) for word in range(vocabulary_size)]
    statistics = embeddings.CorpusStatistics(words, np.ones(vocabulary_size, dtype=np.int64))
    return torch.from_numpy(embeddings.build(name, statistics, dim, seed).vectors)
