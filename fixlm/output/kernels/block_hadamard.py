"""Cross-entropy of block-Hadamard codewords by fast Walsh–Hadamard transforms: no matrix, no (n, V) array.

A slot is block c, position i, number c · M + i. Its logit for features [s, r] (or r alone, then s = 0) is

    scale · H_M[i] · (s + d_c ∘ r) + bias

with H_M the Sylvester matrix and d_c a vector of signs, so that all logits of a block are one transform. On the CPU
the kernel of `block_hadamard_numba` does it; elsewhere, and for sizes outside its range, plain torch: H_M is the
Kronecker product of two smaller ones, and the transform two small matrix products.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from fixlm.output.kernels.arrays import as_numpy
from fixlm.output.kernels.gradients import once, without_graph
from fixlm.output.kernels.threads import in_threads

KERNEL_POSITIONS = (16, 8192)
"""The smallest and largest M of the kernel."""

KERNEL_TOKENS = 8
"""It does as many at a time."""

TILE_BYTES = 32 * 2**20
"""Of the logits that plain torch holds at a time."""

UNUSED = -1e30
"""The bias of a slot without a word: its probability is zero, and no sum or difference overflows."""


class AddedLogits(NamedTuple):
    """What some slots have on top of the logits of their codes.

    Args:
        logits: (K, columns) of the type of the features: a column a token, then zeros up to a multiple of
            `KERNEL_TOKENS`.
        slots: (K,) no two alike.
    """

    logits: Tensor
    slots: Tensor


def block_hadamard_cross_entropy(
    features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, scale: float = 1.0
) -> Tensor:
    """Mean negative log-likelihood of the targets, differentiable in features and bias.

    Args:
        features: (n, M), or (n, 2M) for [s, r].
        signs: (blocks, M) ±1, d_c.
        bias: (blocks · M,) in order of slots, `UNUSED` where there is no word.
        slots: (n,) the slot of each target.
        scale: of the logits without their bias.

    Returns:
        A scalar, nats a token.
    """
    features, bias = without_graph(features, bias)
    loss: Tensor = _CrossEntropy.apply(features, signs, bias, slots, scale)
    return loss


@torch.no_grad()
def block_hadamard_nll(
    features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, scale: float = 1.0, added: AddedLogits | None = None
) -> Tensor:
    """Negative log-likelihood of each target: (n,) nats. Arguments as above; no gradient."""
    return implementation_for(features, signs, bias)(features, signs, bias, slots, scale, None, added)[0]


def block_hadamard_logits(features: Tensor, signs: Tensor, bias: Tensor, scale: float = 1.0) -> Tensor:
    """Every logit: (n, M) or (n, 2M) → (n, blocks · M).

    Args:
        features, signs, scale: as above.
        bias: (≤ blocks · M,), of the first slots; later ones get none.
    """
    if torch.is_grad_enabled() and (features.requires_grad or bias.requires_grad):
        padded = nn.functional.pad(bias, (0, signs.numel() - len(bias)))
        return logits_by_torch(features, signs, scale, walsh_hadamard) + padded
    if unpack_dual(features).tangent is not None or not kernel_fits(features, signs.shape[1]):
        logits = logits_by_torch(features, signs, scale, kronecker_transform)
        logits[:, : len(bias)] += bias
        return logits
    from fixlm.output.kernels.block_hadamard_numba import all_logits

    logits = features.new_empty(len(features), signs.numel())
    x, d, b, y = (tensor.detach().contiguous().numpy() for tensor in (features, signs, bias, logits))
    in_threads(lambda part, _: all_logits(x[part], scale, d, b, y[part]), len(x), len(b), 1)
    return logits


def logits_by_torch(features: Tensor, signs: Tensor, scale: float, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Every logit, without bias."""
    *shared, own = (scale * features).split(signs.shape[1], dim=1)
    blocks = signs * own[:, None]  # (n, blocks, M)
    for half in shared:
        blocks = blocks + half[:, None]
    return transform(blocks).flatten(1)


def walsh_hadamard(x: Tensor) -> Tensor:
    """The transform of the last dimension: (…, M) → (…, M), x H_M."""
    result: Tensor = _WalshHadamard.apply(x)
    return result


def kronecker_transform(x: Tensor) -> Tensor:
    """`walsh_hadamard` in plain torch: with x as a matrix (M/K, K), H_{M/K} x H_K."""
    size = int(x.shape[-1])  # which is a tensor in a trace
    columns = 1 << (size.bit_length() - 1) // 2
    left, right = (sylvester(order).to(x) for order in (size // columns, columns))
    return (left @ x.unflatten(-1, (-1, columns)) @ right).flatten(-2)


def sylvester(size: int) -> Tensor:
    """H of that order, a power of two: (size, size) ±1."""
    return torch.from_numpy(_sylvester(size))


@lru_cache
def _sylvester(size: int) -> np.ndarray:
    # No tensor: one that was made while torch exports a network holds no numbers.
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


class _WalshHadamard(torch.autograd.Function):
    """Its own transpose, and so its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if not kernel_fits(x, x.shape[-1]):
            return kronecker_transform(x)
        from fixlm.output.kernels.block_hadamard_numba import transform

        x = x.contiguous()
        result = torch.empty_like(x)
        rows, results = (tensor.detach().view(-1, x.shape[-1]).numpy() for tensor in (x, result))
        in_threads(lambda part, _: transform(rows[part], results[part]), len(rows), rows.shape[1], KERNEL_TOKENS)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return walsh_hadamard(grad)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, scale: float) -> Tensor:
        gradient = features.new_empty(features.shape) if any(ctx.needs_input_grad) else None
        nll, grad_bias = implementation_for(features, signs, bias)(features, signs, bias, slots, scale, gradient, None)
        ctx.save_for_backward(gradient, grad_bias)
        return nll.mean()

    @staticmethod
    @once
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        gradient, grad_bias = ctx.saved_tensors
        scale = grad_loss / len(gradient)
        return gradient * scale, None, grad_bias * scale, None, None


Implementation = Callable[
    [Tensor, Tensor, Tensor, Tensor, float, Tensor | None, AddedLogits | None], tuple[Tensor, Tensor]
]
"""features, signs, bias, slots, scale, where to put the gradient for the features, added logits → nll (n,), gradient
for the bias.

Gradients are those of the summed nll, and not computed where there is no place for them; the place may be the features.
That for the added logits takes their place.
Everything is computed in the type of the bias; features and their gradient may have a lower one.
"""


def implementation_for(features: Tensor, signs: Tensor, bias: Tensor) -> Implementation:
    types = (features.dtype, bias.dtype)
    fits = signs.dtype == types[1] and (types[0] == types[1] or types == (torch.bfloat16, torch.float32))
    return cross_entropy_by_kernel if fits and kernel_fits(bias, signs.shape[1]) else cross_entropy_by_torch


def kernel_fits(numbers: Tensor, positions: int) -> bool:
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # a trace has no part of what the kernel writes
        return False
    smallest, largest = KERNEL_POSITIONS
    fits = smallest <= positions <= largest and numbers.dtype in (torch.float32, torch.float64)
    return fits and numbers.device.type == "cpu"


def cross_entropy_by_torch(
    features: Tensor,
    signs: Tensor,
    bias: Tensor,
    slots: Tensor,
    scale: float,
    gradient: Tensor | None,
    added: AddedLogits | None = None,
) -> tuple[Tensor, Tensor]:
    """The reference, in tiles of tokens, on any device."""
    nll, grad_bias = bias.new_empty(len(features)), torch.zeros_like(bias)
    tile = max(1, TILE_BYTES // (len(bias) * bias.element_size()))
    for start in range(0, len(features), tile):
        part = slice(start, start + tile)
        tokens = torch.arange(len(slots[part]), device=slots.device)
        logits = logits_by_torch(features[part].to(bias.dtype), signs, scale, kronecker_transform) + bias
        if added is not None:
            own = added.logits[:, start : start + len(tokens)]  # a view, (K, tile)
            logits.index_add_(1, added.slots, own.t().to(bias.dtype))
        log_probability = logits.log_softmax(1)
        nll[part] = -log_probability[tokens, slots[part]]
        if gradient is not None:
            grad = log_probability.exp_()  # (tile, blocks · M): softmax, then softmax − one-hot
            grad[tokens, slots[part]] -= 1
            grad_bias += grad.sum(0)
            if added is not None:
                own.copy_(grad.index_select(1, added.slots).t())
            blocks = scale * kronecker_transform(grad.unflatten(1, signs.shape))
            signed = (blocks * signs).sum(1)  # (tile, M)
            both = features.shape[1] > signs.shape[1]
            gradient[part] = torch.cat([blocks.sum(1), signed], 1) if both else signed
    return nll, grad_bias


def cross_entropy_by_kernel(
    features: Tensor,
    signs: Tensor,
    bias: Tensor,
    slots: Tensor,
    scale: float,
    gradient: Tensor | None,
    added: AddedLogits | None = None,
) -> tuple[Tensor, Tensor]:
    """On the CPU, in as many threads as torch uses; each sums its own gradient of the bias, added in fixed order."""
    from fixlm.output.kernels.block_hadamard_numba import cross_entropy

    shared = True if features.shape[1] > signs.shape[1] else None  # by its type the kernel is compiled
    nll = bias.new_empty(len(features))
    grad_bias = bias.new_zeros(torch.get_num_threads(), len(bias) if gradient is not None else 0)
    x = as_numpy(features.contiguous())
    d, b, t = (tensor.detach().contiguous().numpy() for tensor in (signs, bias, slots))
    losses, db = nll.numpy(), grad_bias.numpy()
    dx = x[:0] if gradient is None else as_numpy(gradient)
    of_some = None
    if added is not None:
        rising = added.slots.sort()
        of_some = (as_numpy(added.logits), rising.values.numpy(), rising.indices.numpy())

    def work(part: slice, thread: int) -> None:
        cross_entropy(x[part], shared, scale, d, b, t[part], losses[part], dx[part], db[thread], of_some, part.start)

    in_threads(work, len(x), len(b), KERNEL_TOKENS)
    return nll, grad_bias.sum(0)
