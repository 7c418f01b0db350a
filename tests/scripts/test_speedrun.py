"""Races to a perplexity, and the plain program beside them, at a small size."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fixlm

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORDS = ["the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "sat", "down"]
TINY = (
    "--output-embed random-orthogonal --hidden-size 8 --embed-size 8 --batch-size 2 --bptt 5 --max-steps 2 --threads 1"
)


def speedrun(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "speedrun.py"), *arguments]
    environment = os.environ | {"FIXLM_CACHE": str(cache)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    directory = tmp_path / "a corpus"
    directory.mkdir()
    for split, lines in {"train": 40, "valid": 12, "test": 14}.items():
        (directory / f"{split}.txt").write_text("".join(f" {' '.join(WORDS[i % 5 :])} \n\n" for i in range(lines)))
    return directory


@pytest.fixture
def plain_lstm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("plain_lstm")


@pytest.mark.parametrize("more", ["", "the cat <eos>\n", "the\u2028cat\x0csat\n", "the dog"])
def test_the_plain_program_reads_the_words_that_fixlm_reads(plain_lstm: Any, text: Path, more: str) -> None:
    from fixlm.corpus.corpus import load

    with open(text / "valid.txt", "a", encoding="utf-8") as file:
        file.write(more)
    splits, words = plain_lstm.read(text)
    corpus = load(str(text))
    assert words == len(corpus.words)
    assert {split: len(ids) for split, ids in splits.items()} == {
        split: len(corpus.splits[split]) for split in ("train", "valid", "test")
    }


def test_a_folder_without_the_text_is_one_line(
    plain_lstm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plain_lstm.py", str(tmp_path), "--json", str(tmp_path / "plain.json")])
    with pytest.raises(SystemExit):
        plain_lstm.main()
    assert f"{tmp_path}: there is no train.txt" in capsys.readouterr().err


@pytest.mark.parametrize("length", [2, 36, 37, 71, 100])
def test_windows_of_the_plain_program_hold_each_next_word_once(plain_lstm: Any, length: int) -> None:
    stream = plain_lstm.in_streams(torch.arange(2 * length + 1), 2)
    inputs, targets = zip(*plain_lstm.windows(stream), strict=True)
    assert torch.equal(torch.cat(inputs), stream[:-1])
    assert torch.equal(torch.cat(targets).view(-1, 2), stream[1:])


def test_the_plain_program_learns(plain_lstm: Any, text: Path) -> None:
    torch.manual_seed(1)
    splits, words = plain_lstm.read(text)
    stream = plain_lstm.in_streams(splits["train"], 4)
    model = plain_lstm.PlainLstm(words, 16, 0.0)
    before = plain_lstm.perplexity(model, stream)
    for _ in range(30):
        plain_lstm.train_epoch(model, stream, 20.0, None)
    assert plain_lstm.perplexity(model, stream) < before / 2


@pytest.mark.slow
def test_a_race_is_timed_from_an_empty_cache(tmp_path: Path, text: Path) -> None:
    file, cache = tmp_path / "race.json", tmp_path / "cache"
    own = f"fixlm --target 1e9 --seeds 2 --json {file} --keep {tmp_path}/kept --".split()
    flags = f"{TINY} --ngram-order 2"
    done = speedrun(*own, "--data", str(text), *flags.split(), cache=cache)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["flags"] == f"--data {text.name} {flags}"  # and not where it lies
    assert [each["seed"] for each in report["runs"]] == [1, 2]
    for each in report["runs"]:
        assert each["minutes"] > each["training_minutes"] > 0
        assert 1 < each["test"] < 1e9
        assert each["summary"]["result"]["test"]["perplexity"] == each["test"]
        assert each["with_ngrams"] == {
            split: each["summary"]["result"]["with_ngrams"][split]["perplexity"] for split in ("valid", "test")
        }
        assert f", with n-grams {each['with_ngrams']['test']:.2f}" in done.stdout
        assert [line for line in each["summary"]["log"] if "validation perplexity" in line]
        assert str(tmp_path) not in json.dumps(each)  # nor where the run lay
        assert "speedrun-" not in json.dumps(each)
    assert done.stdout.count("1e+09 reached") == 2
    kept = fixlm.load(tmp_path / "kept" / "seed2", data=str(text))
    assert kept.perplexity("test") == pytest.approx(report["runs"][1]["test"])
    again = speedrun(*own, "--data", str(text), *flags.split(), cache=cache)
    assert f"--keep: there is something already (found {tmp_path}/kept/seed1)" in again.stderr
    assert not cache.exists()  # what the user has computed before neither helps nor grows


@pytest.mark.slow
def test_the_plain_program_is_timed(tmp_path: Path, text: Path) -> None:
    file = tmp_path / "plain.json"
    done = speedrun("plain", "--json", str(file), "--", str(text), "--hidden-size=8", "--threads=1", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert len(report["epochs"]) == 1
    assert math.isclose(report["minutes_of_40_epochs"], 40 * report["minutes_an_epoch"])
    assert report["flags"].startswith("a corpus ")  # and not where it lies


@pytest.mark.slow
def test_an_epoch_is_reckoned_from_the_steps_that_were_taken(tmp_path: Path, text: Path) -> None:
    file, train = tmp_path / "plain.json", text / "train.txt"
    train.write_text(10 * train.read_text())  # more than two windows
    flags = ["--hidden-size=8", "--threads=1", "--max-steps=2"]
    done = speedrun("plain", "--json", str(file), "--", str(text), *flags, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    (epoch,) = report["epochs"]
    assert epoch["words"] == 2 * 20 * 35 < report["words_an_epoch"]
    whole = epoch["train_seconds"] * report["words_an_epoch"] / epoch["words"] + epoch["valid_seconds"]
    assert math.isclose(60 * report["minutes_an_epoch"], whole)


def test_a_report_does_not_say_where_a_folder_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("speedrun")
    (tmp_path / "a text").mkdir()
    monkeypatch.chdir(tmp_path / "a text")
    given = ["--data", str(tmp_path / "a text"), f"--data={tmp_path / 'a text'}", ".", "--lr=0.1", "--epochs", "2"]
    assert module.shown(given) == "--data a text --data=a text a text --lr=0.1 --epochs 2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("fixlm -- --seed 3", "--seed: the speedrun sets it itself"),
        ("fixlm --target 0.5", "--target"),
        ("fixlm --json nowhere/race.json", "--json: there is no such directory"),  # and not hours later
        ("plain --json nowhere/race.json -- text", "--json: there is no such directory"),
        ("race", "unknown command"),
        ("plain --json nowhere/race.json -- text --seed 2", "--json: there is no such directory"),  # --seed is its own
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("speedrun")
    assert module.run(module.command, arguments.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_fails_ends_the_race(tmp_path: Path) -> None:
    done = speedrun("fixlm", "--", "--output-embed", "nothing", cache=tmp_path)
    assert done.returncode == 2
    assert "unknown" in done.stdout
    assert "the run failed" in done.stderr
