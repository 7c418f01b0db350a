"""The state of an optimizer, whichever it is: stored, put back bit for bit, and refused where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from helpers import assert_same_end, interrupt, train
from torch import Tensor

from fixlm.config.schema import OptimizationConfig
from fixlm.runs import checkpoint
from fixlm.training.optimizer import OPTIMIZERS

pytestmark = pytest.mark.slow


class CountingSGD(torch.optim.Optimizer):
    """Keeps a plain number for each parameter: how many steps it took. Each step is shorter than the last."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["steps"] = state.get("steps", 0) + 1
                parameter -= group["lr"] / state["steps"] * parameter.grad


OTHERS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "nadam": torch.optim.NAdam,  # two numbers beside two tensors
    "adafactor": torch.optim.Adafactor,  # rows and columns of a matrix, and other names for a vector
    "counting": CountingSGD,
}


def test_every_choice_of_the_flag_can_be_made() -> None:
    assert set(get_args(get_type_hints(OptimizationConfig)["optimizer"])) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OTHERS)
def test_any_optimizer_is_stopped_and_resumed_bit_for_bit(
    name: str, small: list[str], tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIMIZERS, "adamw", lambda groups, config: OTHERS[name](groups))
    flags = [*small, "--output-embed", "hadamard", "--run"]
    assert train(*flags, str(tmp_path / "whole")) == 0
    at_step(5, interrupt)
    assert train(*flags, str(tmp_path / "cut")) == 130
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}


MOMENTS = "optimizer.exp_avg.lstm.weight_hh_l1"
DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "one is gone": (lambda tensors: without(tensors, MOMENTS), f"KeyError('{MOMENTS}')"),
    "all are gone": (lambda tensors: without(tensors, "optimizer."), "KeyError('optimizer."),
    "another shape": (
        lambda tensors: tensors | {MOMENTS: torch.zeros(64, 15)},
        f"ValueError('{MOMENTS} torch.float32[64, 15], not torch.float32[64, 16]')",
    ),
    "another type": (
        lambda tensors: tensors | {MOMENTS: torch.zeros(64, 16, dtype=torch.float64)},
        f"ValueError('{MOMENTS} torch.float64[64, 16], not torch.float32[64, 16]')",
    ),
    "steps of no shape that it knows": (
        lambda tensors: tensors | {"optimizer.step.lstm.weight_hh_l1": torch.zeros(2)},
        "ValueError('optimizer.step.lstm.weight_hh_l1 torch.float32[2], not torch.float32[]')",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_whose_optimizer_is_damaged_does_not_fit_its_run(
    damage: str, small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    at_step(5, interrupt)
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 130
    saved = checkpoint.verify(run / "checkpoints/step-5")
    change, found = DAMAGES[damage]
    checkpoint.save(run / "checkpoints", 5, saved.model(), change(saved.training()), saved.state(), best=False)
    capsys.readouterr()
    assert train("--resume", "--run", str(run)) == 2
    assert f"the checkpoint does not fit its run (found {found}" in capsys.readouterr().err
