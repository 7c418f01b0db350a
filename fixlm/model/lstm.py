"""The recurrent core: an LSTM with locked dropout and weight drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fixlm.errors import InputError
from fixlm.model.dropout import dropout_mask, locked_dropout

if TYPE_CHECKING:
    from fixlm.model.core import State

WIDE = 512
"""Units from which on `fixlm.model.lstm_layer` is faster: below, the start of a product costs more than it saves."""


class LockedDropoutLSTM(nn.LSTM):
    """`torch.nn.LSTM` with locked dropout and weight drop; its parameters have the names of that class.

    The state is (hidden, cell), each (layers, B, H), with 0 in the columns that a shorter last layer does not have.

    Args:
        input_size: E.
        hidden_size: H, units of each layer.
        last_hidden_size: units of the last layer; None: H.
        between: rate of locked dropout between the layers.
        weight_drop: rate of DropConnect on the recurrent weights (Merity, Keskar and Socher 2017): in
            training each of them is 0 for a whole window with this probability.
    """

    STATE = ("hidden", "cell")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 2,
        between: float = 0.0,
        *,
        last_hidden_size: int | None = None,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.between, self.weight_drop = between, weight_drop
        self.sizes = [hidden_size] * (num_layers - 1) + [last_hidden_size or hidden_size]
        if self.sizes[-1] != hidden_size:
            self._resize_last(input_size if num_layers == 1 else hidden_size, self.sizes[-1])

    def _resize_last(self, inputs: int, units: int) -> None:
        """Gives the last layer other weights, uniform in ±1/√units as torch has them."""
        shapes = [(4 * units, inputs), (4 * units, units), (4 * units,), (4 * units,)]
        for name, shape in zip(self._all_weights[-1], shapes, strict=True):
            start = torch.empty(shape).uniform_(-(units**-0.5), units**-0.5)
            setattr(self, name, nn.Parameter(start))

    def flatten_parameters(self) -> None:
        """Lays the weights out for cuDNN, as the base class does, where all layers have one size."""
        if len({*getattr(self, "sizes", ())}) <= 1:
            super().flatten_parameters()

    def start_state(self, batch_size: int) -> State:
        """Zeros."""
        like = next(self.parameters())
        zeros = like.new_zeros(self.num_layers, batch_size, max(self.sizes))
        return zeros, zeros.clone()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:  # type: ignore[override]
        """(T, B, E), state → (T, B, units of the last layer), state.

        Raises:
            InputError: x or the state has another shape.
        """
        self._require_shapes(x, state)
        hidden, cell = [], []
        for layer, (h, c) in enumerate(zip(*state, strict=True)):
            if layer > 0:
                x = locked_dropout(x, self.between, self.training)
            units = self.sizes[layer]
            x, h, c = self._layer(layer, x, h[:, :units].contiguous(), c[:, :units].contiguous())
            filling = (0, state[0].shape[-1] - units)
            hidden.append(nn.functional.pad(h, filling))
            cell.append(nn.functional.pad(c, filling))
        return x, (torch.stack(hidden), torch.stack(cell))  # (T, B, units), 2 × (layers, B, H)

    def _require_shapes(self, x: Tensor, state: State) -> None:
        # torch.lstm itself reads past the end of what is too short.
        if x.dim() != 3 or not len(x) or x.shape[2] != self.input_size:
            raise InputError(
                "x", "not what the LSTM reads", found=tuple(x.shape), expected=f"(T, B, {self.input_size})"
            )
        expected = self.num_layers, x.shape[1], max(self.sizes)
        for part, name in zip(state, self.STATE, strict=True):
            if part.shape != expected:
                raise InputError(f"{name} state", "not of this LSTM", found=tuple(part.shape), expected=expected)

    def _layer(self, layer: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(T, B, inputs) and two (B, units) → (T, B, units) and two (B, units)."""
        weights = self._weights(layer)
        if self.training and _wide_in_bfloat16(x, h, c, weights[0]):
            from fixlm.model.lstm_layer import lstm_layer

            return lstm_layer(x, h, c, weights, torch.bfloat16)
        state = (h[None], c[None])
        x, h, c = torch.lstm(x, state, weights, True, 1, 0.0, self.training, False, False)
        return x, h[0], c[0]

    def _weights(self, layer: int) -> list[Tensor]:
        """Input, recurrent weights and the two biases; in training with the recurrent ones dropped."""
        weights = [getattr(self, name) for name in self._all_weights[layer]]
        if self.training and self.weight_drop > 0:
            weights[1] = weights[1] * dropout_mask(weights[1].shape, self.weight_drop, weights[1])
        return weights


def _wide_in_bfloat16(x: Tensor, h: Tensor, *others: Tensor) -> bool:
    """Whether `fixlm.model.lstm_layer` computes a layer."""
    units = h.shape[1]
    if x.device.type != "cpu" or units < WIDE or units % 8 or any(each.dtype != torch.float32 for each in (h, *others)):
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
