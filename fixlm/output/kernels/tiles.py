"""A loss and its gradients tile by tile, so that what a layer makes of its input is never held for all tokens."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fixlm.output.kernels.gradients import once

TILE_BYTES = 6 * 2**20
"""Of the hidden states of a tile; a layer makes several arrays of that size of them."""


def loss_by_tiles(
    loss: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, targets: Tensor, parameters: Iterable[nn.Parameter]
) -> Tensor:
    """Mean of ``loss`` over all tokens, with its gradients had in the same pass.

    Args:
        loss: (k, H), (k,) → mean nats; differentiable in the first and in the parameters.
        hidden: (n, H).
        targets: (n,).
        parameters: all that ``loss`` trains.

    Returns:
        A scalar, differentiable in ``hidden`` and the parameters.
    """
    tile = max(1, TILE_BYTES // (hidden.shape[1] * hidden.element_size()))
    if not torch.is_grad_enabled() or len(targets) <= tile:
        return loss(hidden, targets)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    total: Tensor = _LossByTiles.apply(loss, tile, hidden, targets, *trained)
    return total


class _LossByTiles(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: Callable[[Tensor, Tensor], Tensor], size: int, hidden: Tensor, targets: Tensor, *trained: Tensor
    ) -> Tensor:
        total: Tensor | float = 0.0
        grad_hidden = torch.empty_like(hidden)
        sums = [torch.zeros_like(parameter) for parameter in trained]
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                tile = hidden[part].detach().requires_grad_()
                share = loss(tile, targets[part]) * (len(tile) / len(targets))
                grad_hidden[part], *gradients = torch.autograd.grad(share, [tile, *trained])
            total = total + share.detach()
            for summed, gradient in zip(sums, gradients, strict=True):
                summed += gradient
        ctx.save_for_backward(grad_hidden, *sums)
        assert isinstance(total, Tensor)
        return total

    @staticmethod
    @once
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, *sums = (grad * grad_loss for grad in ctx.saved_tensors)
        return None, None, grad_hidden, None, *sums
