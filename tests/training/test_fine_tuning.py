"""Training that starts from the best weights of another run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import assert_same_end, interrupt, same, train
from safetensors.torch import load_file

pytestmark = pytest.mark.slow  # most of these train a model


@pytest.fixture
def source(small: list[str], tmp_path: Path) -> Path:
    run = tmp_path / "source"
    flags = f"--output-embed hadamard --average ema --ema-decay 0.8 --run {run}"
    assert train(*small, *flags.split()) == 0
    return run


def weights(run: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "model.safetensors")


def test_fine_tuning_starts_at_the_best_weights_and_averages_from_the_first_step(
    source: Path, small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    best = weights(source, "best")
    run = tmp_path / "tuned"
    first = []
    at_step(1, lambda trainer: first.append(weights(run, "step-0")))
    flags = f"--output-embed hadamard --fine-tune {source} --average nt-asgd --seed 7 --dropout 0.4 --run {run}"
    assert train(*small, *flags.split()) == 0
    assert same(first[0], best)
    assert not same(weights(run, "last"), best)
    state = json.loads((run / "checkpoints/last/state.json").read_text())
    assert state["average_start"] == 0
    # What it starts from is scored too, so that the best of a fine-tuning is never worse.
    before, after = (json.loads((path / "result.json").read_text()) for path in (source, run))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert records[0] == {"step": 0, "epoch": 0, "validation": before["valid"]}
    assert after["valid"]["nll"] <= before["valid"]["nll"]
    assert len(state["validations"]) == 3


def test_a_fine_tuning_that_only_does_harm_ends_with_what_it_started_from(
    source: Path, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "tuned"
    flags = f"--output-embed hadamard --fine-tune {source} --optimizer sgd --lr 100 --clip 100 --run {run}"
    assert train(*small, *flags.split()) == 0
    assert json.loads((run / "result.json").read_text())["best_step"] == 0
    assert same(weights(run, "best"), weights(source, "best"))


def test_a_stopped_fine_tuning_is_the_uninterrupted_one_and_needs_its_source_no_more(
    source: Path, small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    flags = [*small, "--output-embed", "hadamard", "--fine-tune", str(source), "--average", "nt-asgd", "--run"]
    assert train(*flags, str(whole)) == 0
    at_step(1, interrupt)
    at_step(13, interrupt)
    assert train(*flags, str(cut)) == 130
    shutil.rmtree(source)
    # As if it had been killed before its first step: it goes on from step 0, and scores its start again.
    shutil.rmtree(cut / "checkpoints/step-1")
    assert train("--resume", "--run", str(cut)) == 130
    assert train("--resume", "--run", str(cut)) == 0
    assert_same_end(whole, cut)
    assert train(*flags, str(cut)) == 0  # finished, which it can tell without its source


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--hidden-size 24", "--hidden-size: differs from the run to start from: SOURCE (found 24, expected 16)."),
        ("--num-layers 3", "--num-layers: differs from the run to start from: SOURCE (found 3, expected 2)."),
        ("--output-embed tied", "--output-embed: differs from the run to start from: SOURCE (found tied, expected "),
        ("--data OTHER", "--data: not the corpus of this run (found V = 12,"),
    ],
)  # fmt: skip
def test_another_model_or_text_is_refused(
    flags: str, message: str, source: Path, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(small[1], other)
    (other / "test.txt").write_text("the cat sees the dog .\n")
    capsys.readouterr()
    given = f"--output-embed hadamard --fine-tune {source} --run {tmp_path / 'tuned'} {flags}"
    assert train(*small, *given.replace("OTHER", str(other)).split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fixlm: error: ")]
    assert line.removeprefix("fixlm: error: ").startswith(message.replace("SOURCE", str(source)))
    assert not (tmp_path / "tuned").exists()


def test_vectors_that_changed_since_are_refused(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors, source = tmp_path / "vectors.txt", tmp_path / "source"
    vectors.write_text("the 1 2 3\ncat 1 -1 0\ndog 0 1 1\n")
    assert train(*small, "--output-embed", str(vectors), "--run", str(source)) == 0
    vectors.write_text("the 1 2 3\ncat 1 -1 0\ndog 0 1 5\n")
    flags = ["--output-embed", str(vectors), "--fine-tune", str(source), "--run", str(tmp_path / "tuned")]
    assert train(*small, *flags) == 2
    assert f"--fine-tune {source}: has another output matrix" in capsys.readouterr().err
