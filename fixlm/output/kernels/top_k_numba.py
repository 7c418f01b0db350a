"""The largest logits of a block-Hadamard output layer on the CPU, eight blocks at a time: no (n, V) array.

The eight blocks stand side by side, one in each lane, and go through the stages of `block_hadamard_numba`. Each token
has a heap of its k best words so far, the worst of them at the root. A chunk of logits whose largest is below the root
is passed over. After the first few, that is nearly every chunk.
"""

import numpy as np
from numba import njit

from fixlm.output.kernels.block_hadamard_numba import GAP, ROW, _first_stage, _load8, _store8, _transform_row
from fixlm.output.kernels.lanes import LANES, load, maximum, splat, store, transposed

CHUNK = 256  # logits that are compared with the root at once


@njit(nogil=True, cache=True)
def largest_logits(features, scale, signs, first, last, bias, words, values, ids):
    """The k largest logits of each token among the blocks ``first`` … ``last − 1``, as heaps.

    Args:
        features: (n, M), or (n, 2M), then [s, r]; of the type of ``bias``, as are all others but ``words`` and ``ids``.
        scale: of the features.
        signs: (blocks, M) ±1, d_c.
        bias: (V,) in order of words.
        words: (blocks · M,) int32, the word in each slot or −1; of no length where word i is in slot i.
        values: (n, k) of −∞, written.
        ids: (n, k) of numbers above any word's, written; those of places without a word stay.
    """
    positions = signs.shape[1]
    chunk, row = min(positions, CHUNK), min(positions, ROW)
    rows = positions // row
    stride = row * LANES + GAP
    x = np.empty((1, rows * stride), bias.dtype)
    work = np.empty(rows * stride, bias.dtype)
    ones, zeros = np.ones(positions, bias.dtype), np.zeros(row, bias.dtype)
    logits = np.empty(LANES * positions, bias.dtype)  # block after block
    slot_bias = np.empty(LANES * positions, bias.dtype)
    lanes = np.empty(LANES, bias.dtype)
    scaled = np.empty_like(features)
    for token in range(len(features)):
        for column in range(features.shape[1]):
            scaled[token, column] = features[token, column] * scale  # rounded once, as in `all_logits`
    for block in range(first, last, LANES):
        slot = block * positions
        size = _load_bias(bias, words, slot, min(LANES, last - block) * positions, slot_bias)
        for token in range(len(features)):
            _load_signed(scaled, token, signs, block, last, row, logits, x)
            _first_stage(x, None, ones, row, work)
            for part in range(rows):
                _transform_row(work, part * stride, row, rows, zeros, 0)
                for at in range(0, row, LANES):
                    eight = transposed(_load8(work, part * stride + at * LANES, LANES))
                    _store8(logits, part * row + at, positions, eight)
            for begin in range(0, size, chunk):
                best = splat(bias, -np.inf)
                for at in range(begin, begin + chunk, LANES):
                    y = load(logits, at) + load(slot_bias, at)
                    store(logits, at, y)
                    best = maximum(y, best)
                store(lanes, 0, best)
                if lanes.max() < values[token, 0]:
                    continue
                for at in range(begin, min(begin + chunk, size)):
                    word = words[slot + at] if len(words) else slot + at
                    if word >= 0:
                        _offer(values[token], ids[token], logits[at], word)


@njit
def _load_bias(bias, words, slot, size, slot_bias):
    """The bias of so many slots; returns how many of them come before the end of the vocabulary."""
    if len(words) == 0:
        size = min(size, len(bias) - slot)
        slot_bias[:size] = bias[slot : slot + size]
        return size
    for at in range(size):
        word = words[slot + at]
        slot_bias[at] = bias[word] if word >= 0 else -np.inf
    return size


@njit
def _load_signed(features, token, signs, first, last, row, buffer, x):
    """s + d_c ∘ r of eight blocks, side by side; those behind the last block are copies of it."""
    positions = signs.shape[1]
    own = (token + 1) * features.shape[1] - positions
    for lane in range(LANES):
        begin = min(first + lane, last - 1) * positions
        for position in range(0, positions, LANES):
            value = load(features, own + position) * load(signs, begin + position)
            if features.shape[1] > positions:
                value = value + load(features, own - positions + position)
            store(buffer, lane * positions + position, value)
    for position in range(0, positions, LANES):
        eight = transposed(_load8(buffer, position, positions))
        _store8(x, position * LANES + position // row * GAP, LANES, eight)


@njit
def _offer(values, ids, value, word):
    """Puts a word in the place of a heap's root if it is better: its value larger, or equal and its id smaller."""
    if not _worse(values[0], ids[0], value, word):
        return
    place = 0
    while 2 * place + 1 < len(values):
        child = 2 * place + 1
        if child + 1 < len(values) and _worse(values[child + 1], ids[child + 1], values[child], ids[child]):
            child += 1
        if not _worse(values[child], ids[child], value, word):
            break
        values[place], ids[place] = values[child], ids[child]
        place = child
    values[place], ids[place] = value, word


@njit
def _worse(value, word, other, other_word):
    """Whether the first of two is; one that is not a number is never better."""
    return value < other or (value == other and word > other_word)
