"""Cross-entropy of block-Hadamard codes behind a trained map, and beside trained rows of some words.

The features are never held for all tokens: they are made tile by tile, then in their place their gradient, then what
it means for the map. The logits of trained rows are treated alike.
"""

from typing import Any

import torch
from torch import Tensor

from fixlm.output.kernels.arrays import scratch
from fixlm.output.kernels.block_hadamard import KERNEL_TOKENS, AddedLogits, block_hadamard_nll, implementation_for
from fixlm.output.kernels.gradients import once, without_graph

FEATURE_BYTES = 44 * 2**20
"""Of projected features at a time: the more tokens, the faster the products."""

ROW_BYTES = 8 * 2**20
"""Of the logits of trained rows at a time."""


def projected_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    signs: Tensor,
    bias: Tensor,
    slots: Tensor,
    gain: Tensor,
    precision: torch.dtype | None = None,
    rows: Tensor | None = None,
    row_slots: Tensor | None = None,
) -> Tensor:
    """`block_hadamard_cross_entropy` of the features gain · ``hidden`` weightᵀ, never held for all tokens.

    Args:
        hidden: (n, H).
        weight: (M, H) or (2M, H), trained.
        signs, bias, slots: as of `block_hadamard_cross_entropy`.
        gain: a scalar, trained.
        precision: type of the products with the weight and the rows; that of ``hidden`` if None.
        rows: (K, H), trained, whose products with ``hidden`` some slots have on top of their logits.
        row_slots: (K,) those slots, no two alike.

    Returns:
        A scalar, nats a token, differentiable in hidden, weight, bias, gain and rows.
    """
    hidden, weight, bias, gain, rows = without_graph(hidden, weight, bias, gain, rows)
    loss: Tensor = _ProjectedCrossEntropy.apply(hidden, weight, signs, bias, slots, gain, precision, rows, row_slots)
    return loss


@torch.no_grad()
def nll_with_rows(
    hidden: Tensor, features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, rows: Tensor, row_slots: Tensor
) -> Tensor:
    """`block_hadamard_nll` where rows are trained: (n,) nats. Arguments as above; no gradient."""
    parts = zip(*(each.split(_tokens_at_a_time(rows)) for each in (hidden, features, slots)), strict=True)
    nll = [
        block_hadamard_nll(own, signs, bias, targets, added=_products(states, rows, row_slots))
        for states, own, targets in parts
    ]
    return torch.cat(nll)


def _tokens_at_a_time(rows: Tensor) -> int:
    size = ROW_BYTES // (len(rows) * rows.element_size())
    return max(KERNEL_TOKENS, size // KERNEL_TOKENS * KERNEL_TOKENS)


def _products(hidden: Tensor, rows: Tensor, slots: Tensor) -> AddedLogits:
    """Of (n, H) with the rows (K, H) of these slots."""
    tokens = len(hidden)
    logits = scratch(rows, len(rows), -(-tokens // KERNEL_TOKENS) * KERNEL_TOKENS)
    torch.mm(rows, hidden.t(), out=logits[:, :tokens])
    logits[:, tokens:] = 0
    return AddedLogits(logits, slots)


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Tile by tile: features, then in their place their gradient, then what it means for hidden and weight.

    The logits of trained rows go the same way.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        signs: Tensor,
        bias: Tensor,
        slots: Tensor,
        gain: Tensor,
        precision: torch.dtype | None,
        rows: Tensor | None,
        row_slots: Tensor | None,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        weight_in_use = weight if precision is None else weight.to(precision)
        implementation = implementation_for(weight_in_use, signs, bias)
        total = hidden.new_zeros(())
        trained = [tensor for tensor in (hidden, weight, bias, gain, rows) if tensor is not None]
        gradients = [torch.zeros_like(tensor) for tensor in trained] if wanted else []
        size = max(KERNEL_TOKENS, FEATURE_BYTES // (len(weight) * weight_in_use.element_size()))
        added = None
        if rows is not None:
            rows = rows.to(weight_in_use.dtype)
            size = min(size, _tokens_at_a_time(rows))
        tiles = -(-len(hidden) // size)
        size = -(-len(hidden) // (tiles * KERNEL_TOKENS)) * KERNEL_TOKENS  # equal ones, as products like them
        buffer = scratch(weight_in_use, min(size, len(hidden)), len(weight))
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            inputs = (gain * hidden[part]).to(weight_in_use.dtype)
            features = torch.mm(inputs, weight_in_use.t(), out=buffer[: len(inputs)])
            if rows is not None and row_slots is not None:
                states = hidden[part].to(rows.dtype)
                added = _products(states, rows, row_slots)
            nll, grad = implementation(features, signs, bias, slots[part], 1.0, features if wanted else None, added)
            total += nll.sum()
            if wanted:
                grad_hidden, grad_weight, grad_bias, grad_gain, *grad_rows = gradients
                grad_bias += grad
                grad_inputs = (features @ weight_in_use).to(hidden.dtype)
                torch.mul(grad_inputs, gain, out=grad_hidden[part])
                grad_gain += grad_inputs.mul_(hidden[part]).sum()
                if precision is None:
                    grad_weight.addmm_(features.t(), inputs)
                else:
                    grad_weight += features.t() @ inputs
                if rows is not None and added is not None:
                    grad_logits = added.logits[:, : len(states)]
                    grad_hidden[part] += grad_logits.t() @ rows
                    grad_rows[0] += grad_logits @ states
        ctx.save_for_backward(*gradients)
        return total / len(hidden)

    @staticmethod
    @once
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_loss / len(ctx.saved_tensors[0])
        grad_hidden, grad_weight, grad_bias, grad_gain, *rest = (saved * scale for saved in ctx.saved_tensors)
        return grad_hidden, grad_weight, None, grad_bias, None, grad_gain, None, rest[0] if rest else None, None
