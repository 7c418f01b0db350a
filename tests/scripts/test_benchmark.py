"""The benchmark at a size at which it says nothing, but does everything."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.language_model import LanguageModel

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
    expected = {"hadamard_loss", "walsh_loss", "hadamard_decode", "dense_fixed_float32_loss"}
    expected |= {"learned_step", "hadamard_step", "walsh_step", "pmi_step"}
    low = {"dense_fixed_bfloat16_loss", "walsh_bfloat16_loss", "walsh_float32_step"}
    assert (expected | low if multiplies_bfloat16() else expected) <= figures["ratios"].keys()
    assert multiplies_bfloat16() or not low & figures["ratios"].keys()
    assert all(ratio > 0 for ratio in figures["ratios"].values())
    assert figures["setting"]["versions"]["torch"]
    assert "whole training step" in done.stdout
    for row in ("plain torch, learned, float32", "dense fixed, float32", "walsh, float32"):
        assert row in done.stdout
    assert "_" not in done.stdout


def test_steps_only_measures_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--steps-only", *SMALL, "--json", str(file))
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert [*figures["microseconds_per_token"]] == ["step"]
    assert [name for name in figures["microseconds_per_token"]["step"] if not name.endswith("_float32")] == [
        "plain torch, learned", "learned", "tied", "adaptive", "pmi", "hadamard", "walsh"
    ]  # fmt: skip
    assert "growth" not in figures


def test_steps_of_pmi_stand_beside_those_of_tied(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--pmi-steps", *SMALL, "--json", str(file))
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert [*figures["microseconds_per_token"]] == ["pmi_step"]
    steps = ["pmi", "trained rows", "trained rows, short tail", "trained rows, clusters"]
    assert figures["ratios"].keys() == {*steps, *(f"{step}, folds" for step in steps)}
    assert "trained rows, short tail, folds" in done.stdout


def test_the_lstm_of_torch_stands_beside_that_of_fixlm(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("--lstm", *SMALL, "--json", str(file))
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert {row["units"] for row in figures["lstm"]} == {128, 256, 512, 1024}
    assert all(row["ratio"] > 0 and len(row["microseconds_per_token"]) == 2 for row in figures["lstm"])
    steps = ["learned", "tied", "adaptive", "pmi", "hadamard", "walsh", "walsh of rank H/4"]
    assert [*figures["microseconds_per_token"]] == ["lstm_step"]
    ours = steps if figures["setting"]["bfloat16_products"] else []
    assert figures["ratios"].keys() == {*ours, *(f"{step}, torch.lstm" for step in steps)}
    assert "512 units" in done.stdout


def test_only_one_part_can_be_measured_alone() -> None:
    done = run("--lstm", "--decoding", *SMALL)
    assert done.returncode == 2
    assert "error: benchmark.py: it measures one part at a time (found --lstm, --decoding)" in done.stderr


def test_the_most_likely_words_are_timed_at_two_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    benchmark = importlib.import_module("benchmark")
    monkeypatch.setattr(benchmark, "MANY_WORDS", 700)
    settings = benchmark.Settings(
        vocabulary_size=300, hidden_size=32, walsh_families=64, rounds=1, decoding=True, threads=1
    )
    forward, words = LanguageModel.forward, []
    monkeypatch.setattr(LanguageModel, "forward", lambda *given: (words.append(1), forward(*given))[1])
    report = benchmark.measure(settings)
    assert [row["V"] for row in report["decoding"]] == [300, 700]
    assert len(words) == 2 * 2 * 2 * 20  # sizes, layers, a round before the first, words of a text
    for row in report["decoding"]:
        assert row["ratios"].keys() == {"walsh", "hadamard"}
        assert all(megabytes is None or megabytes < 4 for megabytes in row["extra_memory_mb"].values())
        assert row["generation"]["ratios"].keys() == {"walsh", "hadamard"}
    assert report["microseconds_per_token"] == {}
    benchmark.print_report(report)
    shown = capsys.readouterr().out
    assert "the 10 most likely words of one token, 20 in a row, V = 700" in shown
    assert "hadamard, float32" in shown
    assert "a text of 20 words, each among the 10 most likely ones, V = 700" in shown
    assert "words a second" in shown


@pytest.mark.parametrize(
    ("key", "otherwise", "words"),
    [
        ("dense_fixed_float32", "float32", "dense fixed, float32"),
        ("dense_fixed_bfloat16", "float32", "dense fixed, bfloat16"),
        ("learned_fused", "float32", "learned, float32"),
        ("adaptive_softmax", "float32", "plain torch, adaptive softmax, float32"),
        ("tied", "bfloat16", "tied, bfloat16"),
        ("tied_float32", "bfloat16", "tied, float32"),
        ("pmi, folds", "bfloat16", "pmi, folds, bfloat16"),
    ],
)
def test_keys_of_old_and_new_files_are_shown_in_words(
    key: str, otherwise: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    assert importlib.import_module("benchmark_report").shown(key, otherwise) == words


def test_layers_in_bfloat16_are_built_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    cases, layers = (importlib.import_module(f"benchmark_{name}") for name in ("cases", "layers"))
    sizes = layers.Sizes(vocabulary_size=300, hidden_size=16, walsh_families=64, batch_size=2, bptt=3)
    for multiplies in (False, True):
        monkeypatch.setattr(cases, "multiplies_bfloat16", lambda found=multiplies: found)
        low = [name for name in cases.trained() if name.endswith(layers.LOW)]
        assert len(low) == (4 if multiplies else 0)
    calls = cases.loss_calls(sizes, low)
    assert all(call.seconds_per_token() > 0 for call in calls.values())
    assert layers.build_layer("walsh_bfloat16", sizes).precision == torch.bfloat16


def test_families_too_small_for_the_words_are_refused() -> None:
    done = run("--quick", *SMALL, "--walsh-families", "64", "--walsh-family-size", "4")
    assert done.returncode == 2
    assert "--walsh-family-size: too small for 300 words in 64 families (found 4, expected at least 5)" in done.stderr


def test_places_of_larger_families_are_distinct_and_reach_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    sizes = importlib.import_module("benchmark_layers").Sizes(
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
