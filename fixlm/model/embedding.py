"""The input embedding: from ids of words to vectors."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fixlm.output.options import EMBEDDING_INIT


class InputEmbedding(nn.Embedding):
    """`torch.nn.Embedding` whose gradient, V rows of which a step touches few, stays in the same memory.

    Fresh memory for it costs several times as much as to clear the old. `recycle_gradient` before a step gives back
    what the step before used.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spare: list[Tensor] = []

    def recycle_gradient(self) -> None:
        """Drops the gradient and keeps its memory for the next one."""
        if self.weight.grad is not None:
            self._spare[:] = [self.weight.grad]
            self.weight.grad = None

    def forward(self, ids: Tensor) -> Tensor:
        """(…) → (…, E)."""
        if self.weight.device.type != "cpu" or not self.weight.requires_grad:
            return super().forward(ids)
        rows: Tensor = _Lookup.apply(self.weight, ids, self._spare)
        return rows


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, spare: list[Tensor]) -> Tensor:
        ctx.save_for_backward(weight, ids)
        ctx.spare = spare
        return nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        weight, ids = ctx.saved_tensors
        # Taken out of the list: autograd keeps a gradient as it is only if nobody else holds it.
        gradient = ctx.spare.pop().zero_() if ctx.spare else torch.zeros_like(weight)
        return gradient.index_add_(0, ids.flatten(), grad.flatten(0, -2)), None, None


def input_embedding(
    vocabulary_size: int, embed_size: int, vectors: Tensor | None = None, *, frozen: bool = False
) -> InputEmbedding:
    """A learned embedding (V, E), or one that starts at (or, frozen, stays at) the given vectors."""
    if vectors is not None:
        start = vectors if frozen else vectors.clone()
        embedding: InputEmbedding = InputEmbedding.from_pretrained(start, freeze=frozen)
        return embedding
    embedding = InputEmbedding(vocabulary_size, embed_size)
    nn.init.uniform_(embedding.weight, -EMBEDDING_INIT, EMBEDDING_INIT)
    return embedding
