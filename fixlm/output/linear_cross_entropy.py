"""Cross-entropy of a linear map without ever holding its logits for all tokens.

With features x (n, D), weight W (V, D) and bias b (V,), token k with target t costs

    nll_k = log Σ_j exp(w_j · x_k + b_j) − w_t · x_k − b_t        (nats)

and its gradient for the logits is softmax − one-hot. Both are had from one tile of logits, so the forward pass computes
the gradients at once and a tile is the largest array there ever is. For a weight that needs no gradient (a fixed output
matrix) the product that would make one is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE_BYTES = (
    32 * 2**20
)  # one tile stays near the last-level cache, and is tall enough for a fast matrix product
MINIMUM_TILE_TOKENS = 64


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: torch.dtype | None = None
) -> Tensor:
    """Mean negative log-likelihood of the targets, differentiable in features, weight and bias.

    Args:
        features: (n, D).
        weight: (V, D).
        bias: (V,).
        targets: (n,) ids.
        precision: type in which the matrix products are taken; that of the features if None.

    Returns:
        A scalar, nats a token.
    """
    loss: Tensor = _LinearCrossEntropy.apply(features, weight, bias, targets, precision)
    return loss


@torch.no_grad()
def linear_nll(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: torch.dtype | None = None
) -> Tensor:
    """Negative log-likelihood of each target: (n,) nats. Arguments as in `linear_cross_entropy`; no gradient."""
    nll = features.new_empty(len(targets))
    for rows, log_probabilities in _tiles(features, weight, bias, precision):
        nll[rows] = -log_probabilities.gather(1, targets[rows, None]).squeeze(1)
    return nll


def linear_logits(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    precision: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """w_j · x_k + b_j for all j: (n, V), in the type of the features; written to ``out`` if given."""
    if precision is None or precision == features.dtype:
        return torch.addmm(bias, features, weight.t(), out=out)
    return torch.add(features.to(precision) @ weight.to(precision).t(), bias, out=out)


def _tiles(
    features: Tensor, weight: Tensor, bias: Tensor, precision: torch.dtype | None
) -> Iterator[tuple[slice, Tensor]]:
    """The log probabilities (tile, V) of successive tiles of tokens, each in the caller's hands until the next."""
    features, weight, bias = features.detach(), weight.detach(), bias.detach()
    if precision is not None:
        weight = weight.to(precision)
    size = max(MINIMUM_TILE_TOKENS, TILE_BYTES // (len(weight) * features.element_size()))
    # One buffer for all tiles: a fresh one each would cost about as much in page faults as the product itself.
    buffer = features.new_empty(min(size, len(features)), len(weight))
    for start in range(0, len(features), size):
        rows = slice(start, min(start + size, len(features)))
        tile = buffer[: rows.stop - rows.start]
        linear_logits(features[rows], weight, bias, precision, out=tile)
        yield rows, torch.log_softmax(tile, dim=1, out=tile)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        precision: torch.dtype | None,
    ) -> Tensor:
        needs_features, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        total = features.new_zeros(())
        gradients = [
            torch.zeros_like(tensor) if needed else None
            for tensor, needed in ((features, needs_features), (weight, needs_weight), (bias, needs_bias))
        ]
        grad_features, grad_weight, grad_bias = gradients
        low = precision or features.dtype
        low_weight = weight.to(low)
        for rows, tile in _tiles(features, low_weight, bias, precision):
            chosen = targets[rows, None]
            total -= tile.gather(1, chosen).sum()
            if not any(ctx.needs_input_grad):
                continue
            tile = tile.exp_()
            tile.scatter_add_(1, chosen, tile.new_full(chosen.shape, -1.0))  # softmax − one-hot
            if grad_bias is not None:
                grad_bias.addmv_(
                    tile.t(), tile.new_ones(len(tile))
                )  # the column sums, at the speed of memory
            tile = tile.to(low)
            if grad_features is not None:
                grad_features[rows] = tile @ low_weight
            if grad_weight is not None:
                _add_product(grad_weight, tile, features[rows])
        ctx.save_for_backward(*gradients)
        ctx.tokens = len(targets)
        return total / len(targets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_loss / ctx.tokens
        return *(None if grad is None else grad * scale for grad in ctx.saved_tensors), None, None


def _add_product(grad_weight: Tensor, tile: Tensor, features: Tensor) -> None:
    if tile.dtype == grad_weight.dtype:
        grad_weight.addmm_(tile.t(), features)
    else:
        grad_weight += tile.t() @ features.to(tile.dtype)
