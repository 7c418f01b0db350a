"""The two layers to compare with: a learned softmax, and one tied to the input embedding."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from embeddings.errors import InputError
from fixlm.output.ingredients import Ingredients
from fixlm.output.layer import DenseOutput, joining_projection
from fixlm.output.options import EMBEDDING_INIT


class LearnedOutput(DenseOutput):
    """logits = x Wᵀ + b with a learned W (V, H); the arguments are those of `OutputLayer`.

    >>> head = LearnedOutput(512, 1000)  # nn.Linear(512, 1000), with a loss that never holds all logits
    >>> x, targets = torch.randn(2, 3, 512), torch.randint(1000, (2, 3))
    >>> head(x).shape, head.loss(x, targets).shape
    (torch.Size([2, 3, 1000]), torch.Size([]))
    """

    def __init__(self, hidden_size: int, vocabulary_size: int, **options: Any) -> None:
        super().__init__(hidden_size, vocabulary_size, **options)
        weight = torch.empty(vocabulary_size, hidden_size).uniform_(-EMBEDDING_INIT, EMBEDDING_INIT)
        self.weight = nn.Parameter(weight)

    @torch.no_grad()
    def start_at(self, vectors: Tensor) -> None:
        """Sets W to the vectors (V, H)."""
        self.weight.copy_(vectors)

    def matrix(self) -> Tensor:
        return self.weight

    def features(self, hidden: Tensor) -> Tensor:
        return hidden


class TiedOutput(DenseOutput):
    """logits = P x Eᵀ + b, E (V, D) the weight of the input embedding (Press and Wolf 2017; Inan et al. 2017).

    P is a learned projection where H and D differ, and absent where they do not.

    Args:
        hidden_size: H.
        input_embedding: whose weight serves as W; it stays the embedding's parameter, not this module's.
        options: ``log_unigram``, ``precision`` and ``bias``, as of `OutputLayer`.
    """

    shared: nn.Embedding

    def __init__(self, hidden_size: int, input_embedding: nn.Embedding, **options: Any) -> None:
        super().__init__(hidden_size, input_embedding.num_embeddings, **options)
        self.projection = joining_projection(hidden_size, input_embedding.embedding_dim)
        # Past nn.Module's own bookkeeping: registered, the weight would stand twice in every state dict.
        object.__setattr__(self, "shared", input_embedding)

    @classmethod
    def create(cls, hidden_size: int, vocabulary_size: int, given: Ingredients, **options: Any) -> Self:
        if given.input_embedding is None:
            raise InputError("tied", "no input embedding to share", fix="pass input_embedding=nn.Embedding(…)")
        return cls(hidden_size, given.input_embedding, **options)

    def matrix(self) -> Tensor:
        return self.shared.weight

    def features(self, hidden: Tensor) -> Tensor:
        return hidden if self.projection is None else self.projection(hidden)
