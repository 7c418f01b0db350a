"""The benchmark at a size at which it says nothing, but does everything."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"
SMALL = ["--vocabulary-size", "300", "--hidden-size", "16", "--batch-size", "4", "--bptt", "5", "--rounds", "1"]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_quick_measures_layers_decoding_and_steps(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--quick", *SMALL, "--json", str(file))
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert {
        "hadamard_loss",
        "walsh_loss",
        "hadamard_decode",
        "dense_fixed_bfloat16_loss",
        "dense_fixed_float32_loss",
        "learned_step",
        "hadamard_step",
        "walsh_step",
        "pmi_step",
    } <= figures["ratios"].keys()
    assert all(ratio > 0 for ratio in figures["ratios"].values())
    assert figures["setting"]["versions"]["torch"]
    assert "whole training step" in done.stdout
    assert "fixed matrix, bfloat16" in done.stdout


def test_steps_only_measures_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--steps-only", *SMALL, "--json", str(file))
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert [*figures["microseconds_per_token"]] == ["step"]
    assert [*figures["microseconds_per_token"]["step"]] == [
        "plain torch, learned", "learned", "tied", "adaptive", "pmi", "hadamard", "walsh"
    ]  # fmt: skip
    assert "growth" not in figures


def test_steps_of_pmi_stand_beside_those_of_tied(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--pmi-steps", *SMALL, "--json", str(file))
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert [*figures["microseconds_per_token"]] == ["pmi_step"]
    steps = ["pmi", "trained rows", "trained rows, short tail"]
    assert figures["ratios"].keys() == {*steps, *(f"{step}, folds" for step in steps)}
    assert "trained rows, short tail, folds" in done.stdout


def test_families_too_small_for_the_words_are_refused() -> None:
    done = run("--quick", *SMALL, "--walsh-families", "64", "--walsh-family-size", "4")
    assert done.returncode == 2
    assert "--walsh-family-size: too small for 300 words in 64 families (found 4, expected at least 5)" in done.stderr


def test_places_of_larger_families_are_distinct_and_reach_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    sizes = importlib.import_module("benchmark_cases").Sizes(
        vocabulary_size=300, walsh_families=64, walsh_family_size=8
    )
    slots = sizes.walsh["slots"]
    assert len(set(slots.tolist())) == 300
    assert slots.max() // 64 == 7


def test_memory_is_measured_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    benchmark = importlib.import_module("benchmark")
    found = benchmark.measure_memory(
        benchmark.Settings(vocabulary_size=3000, hidden_size=64, batch_size=40, bptt=50, threads=1), ["hadamard"]
    )
    measured = found["hadamard"]
    assert list(measured) == ["2000 tokens", "8000 tokens"]
    if None not in measured.values():
        assert max(measured.values()) < 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--json", "nowhere/figures.json"], "--json: there is no such directory (found nowhere)"),
        (["--rounds", "0"], "--rounds: out of range (found 0"),
    ],
)
def test_what_is_wrong_is_said_at_once(flags: list[str], message: str) -> None:
    done = run(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
