"""Where the time of a step goes."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def operation(*names: str) -> Any:
    """An operation by its own name and those of its callers, the outermost first."""
    event = None
    for name in names:
        event = SimpleNamespace(name=name, cpu_parent=event)
    return event


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("_LSTMLayerBackward", "aten::mm"), "LSTM"),
        (("_ProjectedCrossEntropy", "aten::mm"), "output layer"),
        (("autograd::engine", "aten::addmm"), "output layer"),
        (("Optimizer.step", "aten::_fused_adamw_"), "AdamW"),
        (("aten::copy_",), "rest"),
    ],
)
def test_a_product_counts_for_the_part_that_takes_it(
    names: tuple[str, ...], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    assert importlib.import_module("profile_step").part_of(operation(*names)) == part
