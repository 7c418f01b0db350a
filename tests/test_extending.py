"""A new output layer, matrix, data set and recurrent core: each is one class here and one line that registers it.

This file stands for a program of somebody else. What it adds is asked for by name, as what is built in is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_end, final, interrupt, losses, train
from torch import Tensor, nn

import embeddings
from embeddings import registry as matrices
from embeddings.options import Checked
from fixlm import cli
from fixlm.corpus import registry as data_sets
from fixlm.corpus.data_set import DataSet
from fixlm.model import core
from fixlm.model.dropout import locked_dropout
from fixlm.output import registry as layers
from fixlm.output.learned import LearnedOutput
from fixlm.output.registry import LayerEntry
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model


class OneHot:
    """A matrix: word i is the unit vector of dimension i mod N."""

    SUMMARY = "unit vectors, each for every N-th word"
    NEEDS_CORPUS = False

    @dataclass(frozen=True)
    class Options(Checked):
        """No options."""

    @staticmethod
    def build(statistics: Any, dim: int | None, seed: int, options: Any, progress: Any) -> np.ndarray:
        return np.eye(dim or 1)[np.arange(len(statistics)) % (dim or 1)]


class Damped(LearnedOutput):
    """An output layer: a learned softmax whose logits are those of tanh(x)."""

    def features(self, hidden: Tensor) -> Tensor:
        return torch.tanh(hidden)


def open_data_set() -> DataSet:
    """A data set: words that count to nine and begin anew."""
    rows = {"train": ["one two three four five six seven eight nine"] * 200}
    rows |= {"valid": ["one two three four five six"] * 20, "test": ["four five six seven eight nine"] * 20}
    return DataSet.of_rows("counting", "counting-1", lambda: rows)


class SmallGRU(nn.Module):
    """A recurrent core: layers of GRU whose state is one tensor (layers, B, H), where an LSTM has two."""

    STATE = ("hidden",)

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, between: float,
        *, last_hidden_size: int, weight_drop: float,
    ) -> None:  # fmt: skip
        super().__init__()
        assert last_hidden_size == hidden_size
        assert weight_drop == 0
        self.hidden_size, self.between = hidden_size, between
        self.layers = nn.ModuleList(nn.GRU(hidden_size if i else input_size, hidden_size) for i in range(num_layers))

    def start_state(self, batch_size: int) -> tuple[Tensor, ...]:
        return (torch.zeros(len(self.layers), batch_size, self.hidden_size),)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        ends = []
        for i, layer in enumerate(self.layers):
            x = locked_dropout(x, self.between, self.training) if i else x
            x, end = layer(x, state[0][i : i + 1].contiguous())
            ends.append(end)
        return x, (torch.cat(ends),)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each of the four; the registries forget them after the test."""
    embeddings.names()  # reads the entry points, so that the copies below have them too
    for registry, name in ((matrices, "_methods"), (layers, "_LAYERS"), (data_sets, "DATA_SETS"), (core, "CORES")):
        for key in ("one-hot", "damped", "counting", "gru"):
            monkeypatch.delitem(getattr(registry, name), key, raising=False)
    embeddings.register("one-hot", OneHot)
    layers.register("damped", LayerEntry(f"{__name__}:Damped", "fixlm.output.options:LearnedOptions"))
    data_sets.DATA_SETS["counting"] = __name__
    core.CORES["gru"] = f"{__name__}:SmallGRU"


@pytest.mark.parametrize(
    "flags",
    [
        ["--output-embed", "one-hot", "--output-dim", "8"],
        ["--output-embed", "damped"],
        ["--data", "counting", "--output-embed", "tied", "--lr", "0.01"],
        ["--core", "gru", "--output-embed", "tied"],
        ["--data", "counting", "--core", "gru", "--output-embed", "damped", "--input-embed", "one-hot"],
    ],
    ids=["matrix", "layer", "data set", "core", "all"],
)
def test_what_is_registered_trains_by_its_name_and_is_loaded(
    flags: list[str], small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(*small, *flags, "--run", str(run)) == 0
    result = json.loads((run / "result.json").read_text())
    first, last = (scores["perplexity"] for _, _, validation in losses(run) if (scores := json.loads(validation)))
    assert last < first
    capsys.readouterr()
    assert cli.main(["evaluate", str(run)]) == 0
    assert f"{result['test']['perplexity']:.2f}" in capsys.readouterr().out


def test_the_classes_are_those_of_this_file(small: list[str], tmp_path: Path) -> None:
    flags = ["--core", "gru", "--output-embed", "damped", "--input-embed", "one-hot"]
    assert train(*small, *flags, "--run", str(tmp_path / "run")) == 0
    model = load_model(RunDirectory(tmp_path / "run"))
    assert type(model.output) is Damped
    assert type(model.core) is SmallGRU


def test_a_core_with_another_state_is_stopped_and_resumed_bit_for_bit(
    small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    flags = [*small, "--core", "gru", "--dropout-between", "0.3", "--output-embed", "hadamard", "--run"]
    assert train(*flags, str(tmp_path / "whole")) == 0
    at_step(5, interrupt)  # between checkpoints, in the midst of an epoch
    assert train(*flags, str(tmp_path / "cut")) == 130
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    assert "gru.layers.0.weight_ih_l0" in final(tmp_path / "cut")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'one-hot' is registered already"):
        embeddings.register("one-hot", OneHot)
    with pytest.raises(ValueError, match="'damped' is registered already"):
        layers.register("damped", layers.entry("damped"))
