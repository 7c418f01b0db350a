"""The softmax of a tile of logits on the CPU, in two sweeps: one for the largest, one for everything else.

A tile is (V, k), the k tokens of a word side by side, so that eight tokens are eight lanes and all sums run down the
columns. It holds float32, float64, or bfloat16 as int16.
"""

import numpy as np
from numba import njit

from fixlm.output.kernels.lanes import LANES, exp2, load, maximum, splat, store

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453


@njit(nogil=True, cache=True)
def softmax(tile, bias, targets, first, last, nll, total):
    """Columns ``first`` … ``last − 1`` of a tile, both multiples of 8.

    Args:
        tile: (V, k) logits without bias; becomes e = exp(logit − largest of its column).
        bias: (V,).
        targets: (n,) ids of the first n ≤ k columns.
        nll: (n,) negative log-likelihood in nats, written.
        total: (k,) the sum of e of each column, written.
    """
    words, tokens = tile.shape
    flat = tile.reshape(-1)
    largest = np.full(tokens, -np.inf, bias.dtype)
    base2_bias = np.empty_like(bias)
    for word in range(words):
        base2_bias[word] = bias[word] * LOG2_E
    to_base2 = splat(bias, LOG2_E)
    for word in range(words):
        b = splat(bias, base2_bias[word])
        for column in range(first, last, LANES):
            y = load(flat, word * tokens + column) * to_base2 + b
            store(largest, column, maximum(y, load(largest, column)))
    chosen = np.empty(tokens, bias.dtype)
    single = np.empty(LANES, bias.dtype)
    for token in range(first, min(last, len(targets))):
        column = token // LANES * LANES
        word = targets[token]
        store(single, 0, load(flat, word * tokens + column) * to_base2 + splat(bias, base2_bias[word]))
        chosen[token] = single[token - column]
    for column in range(first, last, LANES):
        store(total, column, splat(bias, 0))
    for word in range(words):
        b = splat(bias, base2_bias[word])
        for column in range(first, last, LANES):
            at = word * tokens + column
            y = load(flat, at) * to_base2 + b  # rounded as in the first sweep: the largest is 0 exactly
            e = exp2(y - load(largest, column))
            store(flat, at, e)
            store(total, column, load(total, column) + e)
    for token in range(first, min(last, len(targets))):
        nll[token] = (largest[token] - chosen[token]) * LN_2 + np.log(total[token])
