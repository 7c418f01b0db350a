"""What a name and a text give to an output layer that is made by name."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embeddings.errors import InputError


@dataclass(frozen=True)
class Ingredients:
    """What some layers are made of; each takes what it needs.

    Args:
        method: the method of `embeddings` behind the layer's name.
        input_embedding: the model's, for a layer that shares its weight.
        vectors: (V, N) the output matrix.
        output_dim: N of a matrix that is built by rule; H if None.
        matrix_seed: seed of a matrix that is built by rule.
        by_frequency: (V,) ids of the words, the most frequent first; in order of ids if None, as before a checkpoint
            is loaded, which has its own.
    """

    method: str | None = None
    input_embedding: nn.Embedding | None = None
    vectors: Tensor | None = None
    output_dim: int | None = None
    matrix_seed: int = 1
    by_frequency: Tensor | None = None

    def most_frequent(self, count: int, vocabulary_size: int) -> Tensor:
        """The ids of so many words, (count,) of (V,).

        Raises:
            InputError: there are not as many, or the number is negative.
        """
        if not 0 <= count <= vocabulary_size:
            expected = f"0 to {vocabulary_size}"
            raise InputError("learned_words", "not a number of words of the vocabulary", found=count, expected=expected)
        ids = torch.arange(vocabulary_size) if self.by_frequency is None else self.by_frequency
        return ids[:count].clone()
