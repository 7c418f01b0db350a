"""What the kernels that compute their gradients in the forward pass have in common."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a ``backward`` that hands out finished gradients: refuses to be differentiated itself.

    torch's `once_differentiable` takes them for constants where the gradient that comes in needs none.

    Raises:
        InputError: within ``create_graph=True``.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():  # in a backward pass only with create_graph
            from embeddings.errors import InputError

            fix = "F.cross_entropy(layer(x), targets), or reduction='none'"
            raise InputError("loss", "it has no second derivative", found="create_graph=True", fix=fix)
        return backward(ctx, grad)

    return checked


def without_graph(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The tensors, under `torch.no_grad` as ones that need no gradient: a kernel then computes none."""
    if torch.is_grad_enabled():
        return tensors
    return tuple(tensor if tensor is None else tensor.detach() for tensor in tensors)
