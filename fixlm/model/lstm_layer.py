"""A wide layer of an LSTM in bfloat16 on the CPU, faster back than `torch.lstm`.

torch adds to the gradients of both weight matrices at each time step. They are float32, and from 512 units on they are
larger than a core's second-level cache. Here each of them is one product over all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fixlm.errors import InputError
from fixlm.model.lstm_cell import back, forth
from fixlm.output.kernels.arrays import as_numpy, scratch


def lstm_layer(
    x: Tensor, hidden: Tensor, cell: Tensor, weights: Sequence[Tensor], precision: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer that `torch.lstm` computes, once differentiable.

    Args:
        x: (T, B, E).
        hidden, cell: (B, H) before the first step; H is a multiple of 8.
        weights: (4H, E), (4H, H) and the two biases (4H,), of the type of ``cell``.
        precision: of products, gates and hidden states; cell states keep their own.

    Raises:
        InputError: in the backward pass, within ``create_graph=True``.

    Returns:
        (T, B, H) in that precision, and hidden and cell (B, H) after the last step.
    """
    result: tuple[Tensor, Tensor, Tensor] = _LSTMLayer.apply(x, hidden, cell, *weights, precision)
    return result


class _LSTMLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        hidden: Tensor,
        cell: Tensor,
        weight_input: Tensor,
        weight_hidden: Tensor,
        bias_input: Tensor,
        bias_hidden: Tensor,
        precision: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (steps, streams, _), units = x.shape, hidden.shape[1]
        inputs = x.to(precision).flatten(0, 1)
        weight_input, weight_hidden = weight_input.to(precision), weight_hidden.to(precision)
        gates = scratch(inputs, steps * streams, 4 * units)
        torch.mm(inputs, weight_input.T, out=gates)
        gates = gates.view(steps, streams, 4 * units)
        hiddens, cells = gates.new_empty(steps + 1, streams, units), cell.new_empty(steps + 1, streams, units)
        hiddens[0], cells[0] = hidden, cell
        bias = as_numpy(bias_input + bias_hidden)
        gates_, hiddens_, cells_ = as_numpy(gates), as_numpy(hiddens), as_numpy(cells)
        for t in range(steps):
            torch.addmm(gates[t], hiddens[t], weight_hidden.T, out=gates[t])
            forth(gates_[t], bias, cells_[t], cells_[t + 1], hiddens_[t + 1])
        ctx.save_for_backward(inputs, weight_input, weight_hidden, gates, hiddens, cells)
        return hiddens[1:], hiddens[-1].to(hidden.dtype), cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, grad_hidden: Tensor, grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # in a backward pass only with create_graph
            found, fix = "create_graph=True", "--precision float32"
            raise InputError("LSTM", "it has no second derivative in bfloat16", found=found, fix=fix)
        inputs, weight_input, weight_hidden, gates, hiddens, cells = ctx.saved_tensors
        steps, streams, _ = gates.shape
        grad_gates = scratch(gates, *gates.flatten(0, 1).shape)
        grad_bias, grad_cell = cells.new_zeros(gates.shape[2]), grad_cell.clone(memory_format=torch.contiguous_format)
        by_step = as_numpy(grad_gates.view_as(gates))
        gates_, cells_, output_ = as_numpy(gates), as_numpy(cells), as_numpy(grad_output.to(gates.dtype).contiguous())
        bias_, cell_ = as_numpy(grad_bias), as_numpy(grad_cell)
        grad_hidden = grad_hidden.to(gates.dtype).contiguous()
        for t in reversed(range(steps)):
            hidden_ = as_numpy(grad_hidden)
            back(gates_[t], cells_[t], cells_[t + 1], output_[t], hidden_, cell_, by_step[t], bias_)
            grad_hidden = grad_gates.view_as(gates)[t] @ weight_hidden
        return (
            (grad_gates @ weight_input).view(steps, streams, -1) if ctx.needs_input_grad[0] else None,
            grad_hidden.to(cells.dtype),
            grad_cell,
            (grad_gates.T @ inputs).to(cells.dtype),
            (grad_gates.T @ hiddens[:-1].flatten(0, 1)).to(cells.dtype),
            grad_bias,
            grad_bias.clone(),
            None,
        )
