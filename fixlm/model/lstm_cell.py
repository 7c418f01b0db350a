"""What an LSTM does to single numbers, for numba: the gates of one time step, forth and back.

A row is a stream; a matrix of gates has the four of a row one after another: input, forget, cell and output gate, as
`torch.nn.LSTM` has them. Gates and hidden states are float32, float64, or bfloat16 as int16; cell states and gradients
of them are not below float32.
"""

from numba import njit

from fixlm.output.kernels.lanes import LANES, exp2, load, maximum, splat, store

LOG2_E = 1.4426950408889634


@njit(nogil=True, cache=True)
def forth(gates, bias, cell_before, cell, hidden):
    """c = f ∘ c₋ + i ∘ g and h = o ∘ tanh c.

    Args:
        gates: (B, 4H) without bias; become i, f, g, o.
        bias: (4H,).
        cell_before: (B, H) c₋.
        cell, hidden: (B, H) c and h, written.
    """
    streams, units = cell.shape
    flat_gates, flat_before, flat_cell, flat_hidden = _flat(gates, cell_before, cell, hidden)
    for stream in range(streams):
        for unit in range(0, units, LANES):
            at, first = stream * units + unit, stream * 4 * units + unit
            i = _sigmoid(load(flat_gates, first) + load(bias, unit), bias)
            f = _sigmoid(load(flat_gates, first + units) + load(bias, units + unit), bias)
            g = _tanh(load(flat_gates, first + 2 * units) + load(bias, 2 * units + unit), bias)
            o = _sigmoid(load(flat_gates, first + 3 * units) + load(bias, 3 * units + unit), bias)
            c = f * load(flat_before, at) + i * g
            store(flat_gates, first, i)
            store(flat_gates, first + units, f)
            store(flat_gates, first + 2 * units, g)
            store(flat_gates, first + 3 * units, o)
            store(flat_cell, at, c)
            store(flat_hidden, at, o * _tanh(c, bias))


@njit(nogil=True, cache=True)
def back(gates, cell_before, cell, grad_output, grad_hidden, grad_cell, grad_gates, grad_bias):
    """The gradients of a step of `forth`.

    Args:
        gates: (B, 4H) i, f, g, o.
        cell_before, cell: (B, H) c₋ and c.
        grad_output, grad_hidden: (B, H) two parts of the gradient for h.
        grad_cell: (B, H) the gradient for c; becomes that for c₋.
        grad_gates: (B, 4H) for the gates before sigmoid and tanh, written.
        grad_bias: (4H,) to which their sum is added.
    """
    streams, units = cell.shape
    flat_gates, flat_before, flat_cell, flat_grads = _flat(gates, cell_before, cell, grad_gates)
    flat_output, flat_state, flat_grad_cell, _ = _flat(grad_output, grad_hidden, grad_cell, grad_cell)
    one = splat(flat_cell, 1.0)
    for stream in range(streams):
        for unit in range(0, units, LANES):
            at, first = stream * units + unit, stream * 4 * units + unit
            i, f = load(flat_gates, first), load(flat_gates, first + units)
            g, o = load(flat_gates, first + 2 * units), load(flat_gates, first + 3 * units)
            bent = _tanh(load(flat_cell, at), flat_cell)
            grad = load(flat_output, at) + load(flat_state, at)
            grad_c = load(flat_grad_cell, at) + grad * o * (one - bent * bent)
            for_i, for_f = grad_c * g * i * (one - i), grad_c * load(flat_before, at) * f * (one - f)
            for_g, for_o = grad_c * i * (one - g * g), grad * bent * o * (one - o)
            for gate, gradient in enumerate((for_i, for_f, for_g, for_o)):
                store(flat_grads, first + gate * units, gradient)
                place = gate * units + unit
                store(grad_bias, place, load(grad_bias, place) + gradient)
            store(flat_grad_cell, at, grad_c * f)


@njit
def _flat(a, b, c, d):
    return a.reshape(-1), b.reshape(-1), c.reshape(-1), d.reshape(-1)


@njit
def _sigmoid(x, like):
    """1 / (1 + 2^y) with y = −x / ln 2, at most 2^126."""
    y = maximum(splat(like, -126.0), x * splat(like, LOG2_E))
    one = splat(like, 1.0)
    return one / (one + exp2(splat(like, 0.0) - y))


@njit
def _tanh(x, like):
    """2 / (1 + exp(−2 x)) − 1."""
    two = splat(like, 2.0)
    return two * _sigmoid(two * x, like) - splat(like, 1.0)
