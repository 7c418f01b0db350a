"""Cross-entropy of a block-Hadamard output layer on the CPU: loss and gradients in one pass that stays in cache.

With M positions (a power of two) and signs d_c, the logits of block c are

    FWHT_M(s + d_c ∘ r) + b_c        (or FWHT_M(d_c ∘ r) + b_c where there is no s)

for features [s, r] of one token. Eight tokens are done together, one a lane, so that every step of a transform, of
the softmax and of the sums over tokens is one vector instruction, and nothing has to be moved between lanes. They go
forward through all blocks, exponentials kept, and back: the transform is its own transpose, so

    ∂s = Σ_c FWHT(p_c − onehot_c),   ∂r = Σ_c d_c ∘ FWHT(p_c − onehot_c),   ∂b_c = Σ_tokens p_c − onehot_c

Everything is in powers of two, 2^(y − max y) with y = logit · log₂e: features and bias are scaled, not V logits. A
largest logit is that of its *row*, of at most 512 positions, that is of what is in the first-level cache.

Work arrays hold the eight tokens of a position side by side. Rows of 512 positions lie a little apart, since at
distances of a power of two they would fall on the same few lines of the cache.
"""

import numpy as np
from numba import njit

from fixlm.output.kernels.lanes import LANES, exp2, load, maximum, splat, store, sums

ROW = 512
GAP = 16  # numbers between two rows
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
LOWEST = -1e30  # what counts as the largest logit of a row at least
SMALLEST_FACTOR = 2.0**-100  # of a row's exponentials: they are divided by it, and it is far below what counts


@njit(nogil=True, cache=True)
def cross_entropy(features, shared, scale, signs, bias, slots, nll, grad_features, grad_bias, added, first):
    """Negative log-likelihood of n tokens and the gradients of its sum.

    Args:
        features: (n, M), or (n, 2M), then [s, r]; of the type of ``bias``, or int16 for bfloat16 beside float32.
        shared: True for [s, r], else None; its type decides what is compiled.
        scale: of the features, so that a layer with rows of norm 1 need not scale them beforehand.
        signs: (blocks, M) ±1, d_c.
        bias: (blocks · M,) in order of slots; a slot without a word has a large negative one.
        slots: (n,) the targets, c · M + i.
        nll: (n,) nats, written.
        grad_features: as features, written; of no rows if no gradient is wanted.
        grad_bias: (blocks · M,), added to if one is.
        added: None, or what some slots have on top of their logit: the logits (K, n or more) of the type of the
            features, a column a token; the slots (K,) rising; the row (K,) of each in the logits. The gradient is
            written in place of the logits if one is wanted. Columns are eight at a time, those without a token zero.
        first: the column of the first token.
    """
    blocks, positions = signs.shape
    row = min(positions, ROW)
    rows = positions // row  # of a block
    stride = row * LANES + GAP  # from one row of a work array to the next
    halves = 1 if shared is None else 2
    x = np.zeros((halves, rows * stride), bias.dtype)
    grad_x = np.zeros_like(x)
    work = np.zeros(rows * stride, bias.dtype)
    wanted = len(grad_features) > 0
    exponentials = np.zeros((len(bias) if wanted else row) * LANES, bias.dtype)
    maxima = np.zeros(blocks * rows * LANES, bias.dtype)
    chosen = np.zeros(LANES, bias.dtype)
    lanes = np.zeros(LANES, bias.dtype)
    tops = np.zeros(LANES, bias.dtype)
    base2_bias = np.empty_like(bias)
    for slot in range(len(bias)):
        base2_bias[slot] = bias[slot] * LOG2_E

    for start in range(0, len(features), LANES):
        tokens = min(LANES, len(features) - start)
        _load_features(features, start, tokens, scale * LOG2_E, row, x)
        grad_x[:] = 0
        largest = splat(bias, -np.inf)
        total = splat(bias, 0)
        place = 0  # of the next slot with an added logit
        for block in range(blocks):
            _first_stage(x, shared, signs[block], row, work)
            for part in range(rows):
                index = block * rows + part
                begin = part * stride
                row_largest = _transform_row(work, begin, row, rows, base2_bias, index * row)
                if added is not None:
                    place, row_largest = _add(work, begin, row, index * row, row_largest, added, first + start, place)
                # Where all biases are -inf, the difference from the largest would be no number.
                row_largest = maximum(row_largest, splat(bias, LOWEST))
                for lane in range(tokens):
                    slot = slots[start + lane] - index * row
                    if 0 <= slot < row:
                        chosen[lane] = work[begin + slot * LANES + lane]
                keep = index * row * LANES if wanted else 0
                row_total = _exponentials(work, begin, row, row_largest, exponentials, keep)
                store(maxima, index * LANES, row_largest)
                new = maximum(row_largest, largest)
                total = total * exp2(largest - new) + row_total * exp2(row_largest - new)
                largest = new
        store(lanes, 0, total)
        store(tops, 0, largest)
        for lane in range(tokens):  # in this order a small loss keeps its digits
            nll[start + lane] = (np.log2(lanes[lane]) + (tops[lane] - chosen[lane])) * LN_2

        if wanted:
            for lane in range(LANES):
                lanes[lane] = 1 if lane < tokens else 0
            inverse = load(lanes, 0) / total
            place = 0
            for block in range(blocks):
                for part in range(rows):
                    index = block * rows + part
                    relative = exp2(load(maxima, index * LANES) - largest)
                    factor = maximum(relative, splat(bias, SMALLEST_FACTOR)) * inverse
                    keep = index * row * LANES
                    store(lanes, 0, factor)
                    for lane in range(tokens):
                        slot = slots[start + lane] - index * row
                        if 0 <= slot < row:
                            exponentials[keep + slot * LANES + lane] -= 1 / lanes[lane]
                    if added is not None:
                        place = _gradient_of_added(
                            exponentials, keep, factor, row, index * row, added, first + start, place
                        )
                    _transform_row_back(
                        exponentials, keep, factor, grad_bias, index * row, row, rows, work, part * stride
                    )
                _last_stage_back(work, shared, signs[block], row, grad_x)
            _store_features(grad_x, start, tokens, scale, row, grad_features)


@njit(nogil=True, cache=True)
def transform(features, result):
    """The Walsh–Hadamard transform of each row: result = features H_M, both (n, M), M as in `cross_entropy`."""
    positions = features.shape[1]
    row = min(positions, ROW)
    rows = positions // row
    stride = row * LANES + GAP
    x = np.zeros((1, rows * stride), features.dtype)
    work = np.zeros(rows * stride, features.dtype)
    signs = np.ones(positions, features.dtype)
    bias = np.zeros(positions, features.dtype)
    for start in range(0, len(features), LANES):
        tokens = min(LANES, len(features) - start)
        _load_features(features, start, tokens, 1.0, row, x)
        _first_stage(x, None, signs, row, work)
        for part in range(rows):
            _transform_row(work, part * stride, row, rows, bias, part * row)
        x[0] = work
        _store_features(x, start, tokens, 1.0, row, result)


@njit(nogil=True, cache=True)
def all_logits(features, scale, signs, bias, result):
    """Every logit of each token.

    Args:
        features, scale, signs: as in `cross_entropy`.
        bias: (≤ blocks · M,) in order of slots.
        result: (n, blocks · M), written; without bias where there is none.
    """
    blocks, positions = signs.shape
    both = features.shape[1] > positions
    signed = np.empty((blocks, positions), features.dtype)
    for token in range(len(features)):
        for block in range(blocks):
            for position in range(positions):
                own = features[token, positions * both + position] * signs[block, position]
                shared = features[token, position] if both else own * 0
                signed[block, position] = (shared + own) * scale
        logits = result[token]
        transform(signed, logits.reshape(blocks, positions))
        for slot in range(len(bias)):
            logits[slot] += bias[slot]


@njit
def _load_features(features, start, tokens, scale, row, x):
    """Puts eight tokens side by side; lanes without a token are zero."""
    columns = features.shape[1]
    rows = columns // (len(x) * row)
    one = np.empty(row, x.dtype)
    for half in range(len(x)):
        for part in range(rows):
            column = (half * rows + part) * row
            begin = part * (row * LANES + GAP)
            for lane in range(tokens):
                _copy(features, (start + lane) * columns + column, one, 0, row)
                for position in range(row):
                    x[half, begin + position * LANES + lane] = one[position] * scale
            for lane in range(tokens, LANES):
                for position in range(row):
                    x[half, begin + position * LANES + lane] = 0


@njit
def _store_features(x, start, tokens, scale, row, features):
    columns = features.shape[1]
    rows = columns // (len(x) * row)
    one = np.empty(row, x.dtype)
    for half in range(len(x)):
        for part in range(rows):
            column = (half * rows + part) * row
            begin = part * (row * LANES + GAP)
            for lane in range(tokens):
                for position in range(row):
                    one[position] = x[half, begin + position * LANES + lane] * scale
                _copy(one, 0, features, (start + lane) * columns + column, row)


@njit
def _copy(source, begin, target, at, size):
    """From and to bfloat16 too, which numpy does not know."""
    for position in range(0, size, LANES):
        store(target, at + position, load(source, begin + position))


# A transform of M = R · 8 · … · 8 positions is a stage of radix R = 2, 4 or 8 and stages of radix 8. Of more than
# 512 positions, the stages between rows come first (last on the way back), then row by row the stages within it.


@njit
def _outer_radix(row, rows):
    radix = row if rows == 1 else rows
    while radix > 8:
        radix //= 8
    return radix


@njit
def _butterflies2(a, b):
    return a + b, a - b


@njit
def _butterflies4(a, b, c, d):
    return _butterflies2(a + c, b + d) + _butterflies2(a - c, b - d)


@njit
def _butterflies8(a, b, c, d, e, f, g, h):
    return _butterflies4(a + e, b + f, c + g, d + h) + _butterflies4(a - e, b - f, c - g, d - h)


@njit
def _load4(array, at, step):
    return load(array, at), load(array, at + step), load(array, at + 2 * step), load(array, at + 3 * step)


@njit
def _load8(array, at, step):
    return _load4(array, at, step) + _load4(array, at + 4 * step, step)


@njit
def _store8(array, at, step, values):
    store(array, at, values[0])
    store(array, at + step, values[1])
    store(array, at + 2 * step, values[2])
    store(array, at + 3 * step, values[3])
    at += 4 * step
    store(array, at, values[4])
    store(array, at + step, values[5])
    store(array, at + 2 * step, values[6])
    store(array, at + 3 * step, values[7])


@njit
def _stage8(work, begin, end, step):
    """Radix 8 in place: butterflies between numbers ``step`` apart."""
    for group in range(begin, end, 8 * step):
        for at in range(group, group + step, LANES):
            _store8(work, at, step, _butterflies8(*_load8(work, at, step)))


@njit
def _signed(x, shared, signs, position, at):
    """s + d_c ∘ r at one position."""
    value = load(x[-1], at) * splat(x, signs[position])
    if shared is not None:
        value = value + load(x[0], at)
    return value


@njit
def _first_stage(x, shared, signs, row, work):
    """The outer stage of s + d_c ∘ r, and all others between rows."""
    rows = len(signs) // row
    stride = row * LANES + GAP
    radix = _outer_radix(row, rows)
    apart = len(signs) // radix
    step = apart * LANES if rows == 1 else rows // radix * stride
    for begin in range(0, apart, row):
        end = min(begin + row, apart)
        gaps = begin // row * GAP
        if radix == 2:
            for position in range(begin, end):
                at = position * LANES + gaps
                a, b = _butterflies2(*_signed2(x, shared, signs, position, apart, at, step))
                store(work, at, a)
                store(work, at + step, b)
        elif radix == 4:
            for position in range(begin, end):
                at = position * LANES + gaps
                a, b, c, d = _butterflies4(*_signed4(x, shared, signs, position, apart, at, step))
                store(work, at, a)
                store(work, at + step, b)
                store(work, at + 2 * step, c)
                store(work, at + 3 * step, d)
        else:
            for position in range(begin, end):
                at = position * LANES + gaps
                low = _signed4(x, shared, signs, position, apart, at, step)
                high = _signed4(x, shared, signs, position + 4 * apart, apart, at + 4 * step, step)
                _store8(work, at, step, _butterflies8(*(low + high)))
    _stages_between_rows(work, row, rows // radix)


@njit
def _signed2(x, shared, signs, position, apart, at, step):
    return (_signed(x, shared, signs, position, at), _signed(x, shared, signs, position + apart, at + step))


@njit
def _signed4(x, shared, signs, position, apart, at, step):
    low = _signed2(x, shared, signs, position, apart, at, step)
    return low + _signed2(x, shared, signs, position + 2 * apart, apart, at + 2 * step, step)


@njit
def _stages_between_rows(work, row, group):
    """Radix 8 between rows, for 16 of them: in groups of 8."""
    stride = row * LANES + GAP
    if group == 8:
        for first in range(0, 16, 8):
            for at in range(first * stride, first * stride + row * LANES, LANES):
                _store8(work, at, stride, _butterflies8(*_load8(work, at, stride)))


@njit
def _transform_row(work, begin, row, rows, bias, slot):
    """The stages within a row, plus the bias; returns the largest of each lane."""
    end = begin + row * LANES
    step = (row // _outer_radix(row, rows) if rows == 1 else row) // 8 * LANES
    while step > LANES:
        _stage8(work, begin, end, step)
        step //= 8
    largest = splat(work, -np.inf)
    for at in range(begin, end, 8 * LANES):
        a, b, c, d, e, f, g, h = _butterflies8(*_load8(work, at, LANES))
        a, b, c, d = (
            a + splat(work, bias[slot]),
            b + splat(work, bias[slot + 1]),
            c + splat(work, bias[slot + 2]),
            d + splat(work, bias[slot + 3]),
        )
        e, f, g, h = (
            e + splat(work, bias[slot + 4]),
            f + splat(work, bias[slot + 5]),
            g + splat(work, bias[slot + 6]),
            h + splat(work, bias[slot + 7]),
        )
        _store8(work, at, LANES, (a, b, c, d, e, f, g, h))
        low, high = maximum(maximum(a, b), maximum(c, d)), maximum(maximum(e, f), maximum(g, h))
        largest = maximum(largest, maximum(low, high))
        slot += 8
    return largest


@njit
def _add(work, begin, row, slot, largest, added, column, place):
    """Adds what slots of a row have on top, from ``place`` on; returns the next place and the row's largest."""
    logits, slots, order = added
    before = place
    while place < len(slots) and slots[place] < slot + row:
        at = begin + (slots[place] - slot) * LANES
        more = load(logits, order[place] * logits.shape[1] + column) * splat(work, LOG2_E)
        store(work, at, load(work, at) + more)
        place += 1
    if place > before:  # what was the largest may be far from it
        largest = splat(work, -np.inf)
        for at in range(begin, begin + row * LANES, LANES):
            largest = maximum(load(work, at), largest)
    return place, largest


@njit
def _gradient_of_added(exponentials, keep, factor, row, slot, added, column, place):
    """p − onehot of the slots that `_add` added to; returns the next place."""
    logits, slots, order = added
    while place < len(slots) and slots[place] < slot + row:
        gradient = load(exponentials, keep + (slots[place] - slot) * LANES) * factor
        store(logits, order[place] * logits.shape[1] + column, gradient)
        place += 1
    return place


@njit
def _exponentials(work, begin, row, largest, exponentials, keep):
    """2^(y − largest) of a row, kept; returns their sum. Four at a time hide the latency of the polynomial."""
    total_a = total_b = total_c = total_d = splat(work, 0)
    for at in range(begin, begin + row * LANES, 4 * LANES):
        a = exp2(load(work, at) - largest)
        b = exp2(load(work, at + LANES) - largest)
        c = exp2(load(work, at + 2 * LANES) - largest)
        d = exp2(load(work, at + 3 * LANES) - largest)
        store(exponentials, keep, a)
        store(exponentials, keep + LANES, b)
        store(exponentials, keep + 2 * LANES, c)
        store(exponentials, keep + 3 * LANES, d)
        total_a, total_b, total_c, total_d = total_a + a, total_b + b, total_c + c, total_d + d
        keep += 4 * LANES
    return (total_a + total_b) + (total_c + total_d)


@njit
def _transform_row_back(exponentials, keep, factor, grad_bias, slot, row, rows, work, begin):
    """p = exponentials · factor, its sums over tokens, and the stages within a row."""
    end = begin + row * LANES
    for at in range(begin, end, 8 * LANES):
        a, b, c, d, e, f, g, h = _load8(exponentials, keep, LANES)
        a, b, c, d, e, f, g, h = (
            a * factor,
            b * factor,
            c * factor,
            d * factor,
            e * factor,
            f * factor,
            g * factor,
            h * factor,
        )
        store(grad_bias, slot, load(grad_bias, slot) + sums(a, b, c, d, e, f, g, h))
        _store8(work, at, LANES, _butterflies8(a, b, c, d, e, f, g, h))
        keep += 8 * LANES
        slot += 8
    length = row // _outer_radix(row, rows) if rows == 1 else row
    step = 8 * LANES
    while step < length * LANES:
        _stage8(work, begin, end, step)
        step *= 8


@njit
def _add_signed(grad_x, shared, signs, position, at, value):
    """∂s += value, ∂r += d_c ∘ value at one position."""
    store(grad_x[-1], at, load(grad_x[-1], at) + value * splat(grad_x, signs[position]))
    if shared is not None:
        store(grad_x[0], at, load(grad_x[0], at) + value)


@njit
def _last_stage_back(work, shared, signs, row, grad_x):
    """The stages between rows, the outer one last, added to the gradients."""
    rows = len(signs) // row
    stride = row * LANES + GAP
    radix = _outer_radix(row, rows)
    apart = len(signs) // radix
    step = apart * LANES if rows == 1 else rows // radix * stride
    _stages_between_rows(work, row, rows // radix)
    for begin in range(0, apart, row):
        end = min(begin + row, apart)
        gaps = begin // row * GAP
        if radix == 2:
            for position in range(begin, end):
                at = position * LANES + gaps
                a, b = _butterflies2(load(work, at), load(work, at + step))
                _add_signed(grad_x, shared, signs, position, at, a)
                _add_signed(grad_x, shared, signs, position + apart, at + step, b)
        elif radix == 4:
            for position in range(begin, end):
                at = position * LANES + gaps
                four = _load4(work, at, step)
                _add_signed4(grad_x, shared, signs, position, apart, at, step, _butterflies4(*four))
        else:
            for position in range(begin, end):
                at = position * LANES + gaps
                eight = _butterflies8(*_load8(work, at, step))
                _add_signed4(grad_x, shared, signs, position, apart, at, step, eight[:4])
                _add_signed4(grad_x, shared, signs, position + 4 * apart, apart, at + 4 * step, step, eight[4:])


@njit
def _add_signed4(grad_x, shared, signs, position, apart, at, step, four):
    _add_signed(grad_x, shared, signs, position, at, four[0])
    _add_signed(grad_x, shared, signs, position + apart, at + step, four[1])
    _add_signed(grad_x, shared, signs, position + 2 * apart, at + 2 * step, four[2])
    _add_signed(grad_x, shared, signs, position + 3 * apart, at + 3 * step, four[3])
