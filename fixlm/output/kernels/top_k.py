"""The k largest logits of each token and their words; of equal logits the smaller id comes first.

`top_k_of_logits` reads all logits. The others make those of a block-Hadamard layer (see `block_hadamard`) a few blocks
at a time and keep the best so far: no (n, V) array.
"""

import numpy as np
import torch
from torch import Tensor

from fixlm.output.kernels.block_hadamard import KERNEL_TOKENS, kernel_fits, kronecker_transform, logits_by_torch
from fixlm.output.kernels.threads import in_threads

TILE_BYTES = 2**20
"""Of the logits that plain torch holds at a time, where a block has no more."""

NO_WORD = torch.iinfo(torch.int64).max


def top_k_of_logits(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(n, V) → values (n, k), falling, and ids (n, k)."""
    values, ids = logits.topk(k, dim=1)
    if bool(((logits >= values[:, -1:]).sum(1) == k).all()):
        return _largest(values, ids, k)
    values, ids = logits.sort(dim=1, descending=True, stable=True)  # which equal ones torch takes is not said
    return values[:, :k], ids[:, :k]


def block_hadamard_top_k(
    features: Tensor, signs: Tensor, bias: Tensor, words: Tensor | None, k: int, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The k largest of `block_hadamard_logits`; the kernel has the same bits, except with [s, r] and a scale beside 1.

    Args:
        features: (n, M), or (n, 2M) for [s, r].
        signs: (blocks, M) ±1, d_c.
        bias: (V,) in order of words, not of slots.
        words: (blocks · M,) int32, the word in each slot or −1; None where word i is in slot i.
        k: from 1 to V.
        scale: of the logits without their bias.

    Returns:
        Values (n, k), falling, and ids (n, k).
    """
    if features.dtype == signs.dtype == bias.dtype and kernel_fits(features, signs.shape[1]):
        values, ids = top_k_by_kernel(features, signs, bias, words, k, scale)
        if not bool((ids[:, -1] == NO_WORD).any()):  # else logits are not numbers, which the kernel passes over
            return values, ids
    return top_k_by_torch(features, signs, bias, words, k, scale)


def top_k_by_torch(
    features: Tensor, signs: Tensor, bias: Tensor, words: Tensor | None, k: int, scale: float
) -> tuple[Tensor, Tensor]:
    """The reference, in tiles of blocks, on any device."""
    positions = signs.shape[1]
    values, ids = features.new_empty(len(features), 0), signs.new_empty(len(features), 0, dtype=torch.int64)
    tile = max(1, TILE_BYTES // (max(1, len(features)) * positions * features.element_size()))
    for first in range(0, len(signs), tile):
        logits = logits_by_torch(features, signs[first : first + tile], scale, kronecker_transform)
        slots = torch.arange(logits.shape[1], device=logits.device) + first * positions
        own = slots if words is None else words[slots].long()
        filled = ((own >= 0) & (own < len(bias))).nonzero().squeeze(1)
        own = own[filled]
        values = torch.cat([values, logits[:, filled] + bias[own]], 1)
        ids = torch.cat([ids, own.expand(len(logits), -1)], 1)
        values, ids = _largest(values, ids, k)
    return values, ids


def top_k_by_kernel(
    features: Tensor, signs: Tensor, bias: Tensor, words: Tensor | None, k: int, scale: float
) -> tuple[Tensor, Tensor]:
    """On the CPU, in as many threads as torch uses; each has the best of its own blocks."""
    from fixlm.output.kernels.top_k_numba import largest_logits

    words = signs.new_empty(0, dtype=torch.int32) if words is None else words
    x, d, b, w = (tensor.detach().contiguous().numpy() for tensor in (features, signs, bias, words))
    values = np.full((torch.get_num_threads(), len(x), k), -np.inf, b.dtype)
    ids = np.full(values.shape, NO_WORD)

    def work(part: slice, thread: int) -> None:
        largest_logits(x, scale, d, part.start, part.stop, b, w, values[thread], ids[thread])

    in_threads(work, len(d), len(x) * d.shape[1], KERNEL_TOKENS)
    # As `_largest`, in numpy: so few numbers are sorted that torch's calls would show in the time of a token.
    both = [each.swapaxes(0, 1).reshape(len(x), len(each) * k) for each in (values, ids)]  # (n, threads · k)
    order = np.lexsort((both[1], -both[0]))[:, :k]
    best, found = (torch.from_numpy(np.take_along_axis(each, order, 1)) for each in both)
    return best, found


def _largest(values: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row in falling order, equal ones in order of ids."""
    by_id = ids.argsort(1)
    values, order = values.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    return values[:, :k], ids.gather(1, by_id.gather(1, order[:, :k]))
