"""Cross-entropy of block-Hadamard codewords by fast Walsh–Hadamard transforms: no matrix, no (n, V) array.

A slot is block c, position i, number c · M + i. Its logit for features [s, r] (or r alone, then s = 0) is

    scale · H_M[i] · (s + d_c ∘ r) + bias

with H_M the Sylvester matrix and d_c a vector of signs, so that all logits of a block are one transform. On the CPU
the kernel of `block_hadamard_numba` does it; elsewhere, and for sizes outside its range, plain torch: H_M is the
Kronecker product of two smaller ones, and the transform two small matrix products.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fixlm.output.kernels.arrays import as_numpy, scratch
from fixlm.output.kernels.threads import in_threads

KERNEL_POSITIONS = (16, 8192)
"""The smallest and largest M of the kernel."""

KERNEL_TOKENS = 8
"""It does as many at a time."""

TILE_BYTES = 32 * 2**20
"""Of the logits that plain torch holds at a time."""

FEATURE_BYTES = 44 * 2**20
"""Of projected features at a time: the more tokens, the faster the products."""

UNUSED = -1e30
"""The bias of a slot without a word: its probability is zero, and no sum or difference overflows."""


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
    loss: Tensor = _CrossEntropy.apply(features, signs, bias, slots, scale)
    return loss


def projected_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    signs: Tensor,
    bias: Tensor,
    slots: Tensor,
    gain: Tensor,
    precision: torch.dtype | None = None,
) -> Tensor:
    """`block_hadamard_cross_entropy` of the features gain · ``hidden`` weightᵀ, never held for all tokens.

    Args:
        hidden: (n, H).
        weight: (M, H) or (2M, H), trained.
        signs, bias, slots: as above.
        gain: a scalar, trained.
        precision: type of the products with the weight; that of ``hidden`` if None.

    Returns:
        A scalar, nats a token, differentiable in hidden, weight, bias and gain.
    """
    loss: Tensor = _ProjectedCrossEntropy.apply(hidden, weight, signs, bias, slots, gain, precision)
    return loss


@torch.no_grad()
def block_hadamard_nll(features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, scale: float = 1.0) -> Tensor:
    """Negative log-likelihood of each target: (n,) nats. Arguments as above; no gradient."""
    return _choose(features, signs, bias)(features, signs, bias, slots, scale, None)[0]


def block_hadamard_logits(features: Tensor, signs: Tensor, bias: Tensor, scale: float = 1.0) -> Tensor:
    """Every logit: (n, M) or (n, 2M) → (n, blocks · M).

    Args:
        features, signs, scale: as above.
        bias: (≤ blocks · M,), of the first slots; later ones get none.
    """
    if torch.is_grad_enabled() and (features.requires_grad or bias.requires_grad):
        padded = nn.functional.pad(bias, (0, signs.numel() - len(bias)))
        return logits_by_torch(features, signs, scale, walsh_hadamard) + padded
    if not _kernel_fits(features, signs.shape[1]):
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
    size = x.shape[-1]
    columns = 1 << (size.bit_length() - 1) // 2
    left, right = (sylvester(order).to(x) for order in (size // columns, columns))
    return (left @ x.unflatten(-1, (-1, columns)) @ right).flatten(-2)


@lru_cache
def sylvester(size: int) -> Tensor:
    """H of that order, a power of two: (size, size) ±1."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


class _WalshHadamard(torch.autograd.Function):
    """Its own transpose, and so its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if not _kernel_fits(x, x.shape[-1]):
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
        nll, grad_bias = _choose(features, signs, bias)(features, signs, bias, slots, scale, gradient)
        ctx.save_for_backward(gradient, grad_bias)
        return nll.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        gradient, grad_bias = ctx.saved_tensors
        scale = grad_loss / len(gradient)
        return gradient * scale, None, grad_bias * scale, None, None


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Tile by tile: features, then in their place their gradient, then what it means for hidden and weight."""

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
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        weight_in_use = weight if precision is None else weight.to(precision)
        implementation = _choose(weight_in_use, signs, bias)
        total = hidden.new_zeros(())
        gradients = [torch.zeros_like(tensor) for tensor in (hidden, weight, bias, gain)] if wanted else []
        size = max(KERNEL_TOKENS, FEATURE_BYTES // (len(weight) * weight_in_use.element_size()))
        tiles = -(-len(hidden) // size)
        size = -(-len(hidden) // (tiles * KERNEL_TOKENS)) * KERNEL_TOKENS  # equal ones, as products like them
        buffer = scratch(weight_in_use, min(size, len(hidden)), len(weight))
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            inputs = (gain * hidden[part]).to(weight_in_use.dtype)
            features = torch.mm(inputs, weight_in_use.t(), out=buffer[: len(inputs)])
            nll, grad = implementation(features, signs, bias, slots[part], 1.0, features if wanted else None)
            total += nll.sum()
            if wanted:
                grad_hidden, grad_weight, grad_bias, grad_gain = gradients
                grad_bias += grad
                grad_inputs = (features @ weight_in_use).to(hidden.dtype)
                torch.mul(grad_inputs, gain, out=grad_hidden[part])
                grad_gain += grad_inputs.mul_(hidden[part]).sum()
                if precision is None:
                    grad_weight.addmm_(features.t(), inputs)
                else:
                    grad_weight += features.t() @ inputs
        ctx.save_for_backward(*gradients)
        return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_loss / len(ctx.saved_tensors[0])
        grad_hidden, grad_weight, grad_bias, grad_gain = (saved * scale for saved in ctx.saved_tensors)
        return grad_hidden, grad_weight, None, grad_bias, None, grad_gain, None


Implementation = Callable[[Tensor, Tensor, Tensor, Tensor, float, Tensor | None], tuple[Tensor, Tensor]]
"""features, signs, bias, slots, scale, where to put the gradient for the features → nll (n,), gradient for the bias.

Gradients are those of the summed nll, and not computed where there is no place for them; the place may be the features.
Everything is computed in the type of the bias; features and their gradient may have a lower one.
"""


def _choose(features: Tensor, signs: Tensor, bias: Tensor) -> Implementation:
    types = (features.dtype, bias.dtype)
    fits = signs.dtype == types[1] and (types[0] == types[1] or types == (torch.bfloat16, torch.float32))
    return cross_entropy_by_kernel if fits and _kernel_fits(bias, signs.shape[1]) else cross_entropy_by_torch


def _kernel_fits(numbers: Tensor, positions: int) -> bool:
    smallest, largest = KERNEL_POSITIONS
    fits = smallest <= positions <= largest and numbers.dtype in (torch.float32, torch.float64)
    return fits and numbers.device.type == "cpu"


def cross_entropy_by_torch(
    features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, scale: float, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The reference, in tiles of tokens, on any device."""
    nll, grad_bias = bias.new_empty(len(features)), torch.zeros_like(bias)
    tile = max(1, TILE_BYTES // (len(bias) * bias.element_size()))
    for start in range(0, len(features), tile):
        part = slice(start, start + tile)
        tokens = torch.arange(len(slots[part]), device=slots.device)
        logits = logits_by_torch(features[part].to(bias.dtype), signs, scale, kronecker_transform) + bias
        log_probability = logits.log_softmax(1)
        nll[part] = -log_probability[tokens, slots[part]]
        if gradient is not None:
            grad = log_probability.exp_()  # (tile, blocks · M): softmax, then softmax − one-hot
            grad[tokens, slots[part]] -= 1
            grad_bias += grad.sum(0)
            blocks = scale * kronecker_transform(grad.unflatten(1, signs.shape))
            own = (blocks * signs).sum(1)  # (tile, M)
            both = features.shape[1] > signs.shape[1]
            gradient[part] = torch.cat([blocks.sum(1), own], 1) if both else own
    return nll, grad_bias


def cross_entropy_by_kernel(
    features: Tensor, signs: Tensor, bias: Tensor, slots: Tensor, scale: float, gradient: Tensor | None
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

    def work(part: slice, thread: int) -> None:
        cross_entropy(x[part], shared, scale, d, b, t[part], losses[part], dx[part], db[thread])

    in_threads(work, len(x), len(b), KERNEL_TOKENS)
    return nll, grad_bias.sum(0)
