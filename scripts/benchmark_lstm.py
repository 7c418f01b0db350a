"""What is timed of wide LSTMs: `fixlm.model.lstm_layer` beside `torch.lstm`, alone and in whole training steps."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from benchmark_cases import STEPS, Call, our_step, plain_step
from benchmark_layers import PLAIN, Sizes
from torch import Tensor, nn

from fixlm.model import lstm
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.lstm_layer import lstm_layer

UNITS = (128, 256, 512, 1024)
BY_TORCH = ", torch.lstm"
"""Behind the name of a step whose LSTM is that of torch, whatever its size. The others have that of fixlm."""
LOW_RANK = "walsh of rank H/4"


def types() -> tuple[torch.dtype, ...]:
    """Of the products: bfloat16 only on processors with such."""
    return (torch.bfloat16, torch.float32) if multiplies_bfloat16() else (torch.float32,)


def layer_calls(sizes: Sizes, units: int, precision: torch.dtype) -> dict[str, Call]:
    """One layer, forth and back: that of torch first."""
    x = torch.randn(sizes.bptt, sizes.batch_size, units, requires_grad=True)
    start = torch.zeros(sizes.batch_size, units)
    weights = [each.detach().requires_grad_() for each in nn.LSTM(units, units).parameters()]

    def by_torch() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            return torch.lstm(x, (start[None], start[None]), weights, True, 1, 0.0, True, False, False)[0]

    def by_fixlm() -> Tensor:
        return lstm_layer(x, start, start, weights, precision)[0]

    def whole(forth: Callable[[], Tensor]) -> Call:
        return Call(lambda: torch.autograd.grad(forth().sum(), [x, *weights]), sizes.tokens)

    return {"torch.lstm": whole(by_torch), "fixlm": whole(by_fixlm)}


def step_calls(sizes: Sizes) -> dict[str, Call]:
    """Whole training steps with both in bfloat16, and those of walsh behind a map to a quarter of its numbers."""
    calls = {PLAIN: Call(plain_step(sizes), sizes.tokens)}
    steps = {name: our_step(layer, sizes) for name, layer in STEPS.items()}
    steps[LOW_RANK] = our_step("walsh", sizes, rank=sizes.hidden_size // 4)
    for name, step in steps.items():
        calls[name + BY_TORCH] = Call(_wide_from(sys.maxsize, step), sizes.tokens)
        if multiplies_bfloat16():  # in float32 a step always has that of torch
            calls[name] = Call(_wide_from(1, step), sizes.tokens)
    return calls


def _wide_from(units: int, step: Callable[[], object]) -> Callable[[], object]:
    def work() -> None:
        usual, lstm.WIDE = lstm.WIDE, units
        try:
            step()
        finally:
            lstm.WIDE = usual

    return work


def measure(sizes: Sizes, rounds: int, in_turns: Callable[..., Any]) -> dict[str, Any]:
    """(j): layers of several widths alone, and whole steps."""
    rows = []
    for precision in types():
        for units in UNITS:
            times, ratios = in_turns(layer_calls(sizes, units, precision), rounds)
            name = str(precision).removeprefix("torch.")
            row = {"units": units, "type": name, "microseconds_per_token": times, "ratio": ratios["fixlm"]}
            rows.append(row)
    times, ratios = in_turns(step_calls(sizes), rounds)
    return {"lstm": rows, "microseconds_per_token": {"lstm_step": times}, "ratios": ratios}
