"""The wide layer in bfloat16 is the one of torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fixlm.errors import InputError
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.lstm import WIDE, LockedDropoutLSTM
from fixlm.model.lstm_layer import lstm_layer


def layer_and_inputs(units: int, dtype: torch.dtype, steps: int = 5, streams: int = 3) -> tuple[nn.LSTM, list[Tensor]]:
    """A layer and its x (T, B, 7), hidden and cell (B, units), of which some gates are shut."""
    torch.manual_seed(0)
    layer = nn.LSTM(7, units, dtype=dtype)
    shapes = [(steps, streams, 7), (streams, units), (streams, units)]
    inputs = [torch.randn(shape, dtype=dtype) * size for shape, size in zip(shapes, (30, 1, 2), strict=True)]
    return layer, [each.requires_grad_() for each in inputs]


def outputs_and_gradients(results: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    loss = sum((result * torch.randn(result.shape)).sum() for result in results)
    return [*results, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize(("steps", "streams"), [(5, 3), (1, 3), (5, 1)])
@pytest.mark.parametrize(
    ("precision", "accuracy"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)]
)
def test_results_and_gradients_are_torchs(precision: torch.dtype, accuracy: float, steps: int, streams: int) -> None:
    layer, inputs = layer_and_inputs(16, torch.promote_types(precision, torch.float32), steps, streams)
    x, hidden, cell = inputs
    weights = list(layer.parameters())
    found = outputs_and_gradients(list(lstm_layer(x, hidden, cell, weights, precision)), [*inputs, *weights])
    output, (last_hidden, last_cell) = layer(x, (hidden[None], cell[None]))
    expected = outputs_and_gradients([output, last_hidden[0], last_cell[0]], [*inputs, *weights])
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= accuracy * theirs.norm()


def test_gradients_of_the_two_biases_can_be_scaled_apart() -> None:
    layer, (x, hidden, cell) = layer_and_inputs(8, torch.float32)
    biases = [layer.bias_ih_l0, layer.bias_hh_l0]
    output, _, _ = lstm_layer(x, hidden, cell, list(layer.parameters()), torch.float32)
    one, other = torch.autograd.grad(output.sum(), biases)
    before = other.clone()
    one.mul_(2)
    assert torch.equal(other, before)


@pytest.mark.parametrize(
    ("x", "state", "said"),
    [((4, 3, 6), (2, 3, 8), r"x: not what the LSTM reads \(found \(4, 3, 6\), expected \(T, B, 7\)\)"),
     ((0, 3, 7), (2, 3, 8), "x: not what the LSTM reads"),
     ((4, 3, 7), (2, 1, 8), r"hidden state: not of this LSTM \(found \(2, 1, 8\), expected \(2, 3, 8\)\)"),
     ((4, 3, 7), (1, 3, 8), "hidden state: not of this LSTM"),
     ((4, 3, 7), (2, 3, 12), "hidden state: not of this LSTM")],
)  # fmt: skip
def test_other_shapes_are_refused(x: tuple[int, ...], state: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        LockedDropoutLSTM(7, 8)(torch.zeros(x), (torch.zeros(state), torch.zeros(state)))


def test_a_second_derivative_is_refused() -> None:
    layer, (x, hidden, cell) = layer_and_inputs(8, torch.float32)
    output, _, _ = lstm_layer(x, hidden, cell, list(layer.parameters()), torch.float32)
    with pytest.raises(InputError, match=r"LSTM: it has no second derivative.*--precision float32"):
        torch.autograd.grad(output.sum(), x, create_graph=True)


def test_what_is_not_a_number_stays_so() -> None:
    layer, (x, hidden, cell) = layer_and_inputs(8, torch.float32)
    with torch.no_grad():
        x[2, 1, 3] = torch.nan
    output, _, _ = lstm_layer(x, hidden, cell, list(layer.parameters()), torch.bfloat16)
    assert output[2:, 1].isnan().all()
    assert not output[:2].isnan().any()
    assert not output[:, 0].isnan().any()


@pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor has no bfloat16 products")
@pytest.mark.parametrize("last", [WIDE, 24])
def test_a_model_that_trains_in_bfloat16_is_the_one_that_scores(last: int) -> None:
    torch.manual_seed(0)
    core = LockedDropoutLSTM(7, WIDE, last_hidden_size=last)
    x, state = torch.randn(6, 2, 7), tuple(torch.randn(2, 2, WIDE) for _ in range(2))
    state[0][1, :, last:] = state[1][1, :, last:] = 0
    with torch.autocast("cpu", torch.bfloat16):
        trained, (hidden, cell) = core(x, state)
    scored, (scored_hidden, scored_cell) = core.eval()(x, state)
    for ours, theirs in ((trained, scored), (hidden, scored_hidden), (cell, scored_cell)):
        assert ours.shape == theirs.shape
        assert (ours.float() - theirs).norm() <= 1e-2 * theirs.norm()


def test_weight_drop_reaches_the_wide_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixlm.model.lstm.WIDE", 8)
    torch.manual_seed(0)
    core = LockedDropoutLSTM(7, 8, num_layers=1, weight_drop=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = core(torch.randn(6, 2, 7), core.start_state(2))
    output.sum().backward()
    gradient = core.weight_hh_l0.grad
    assert gradient is not None
    assert 0.3 < (gradient == 0).float().mean().item() < 0.7
