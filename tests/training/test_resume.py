"""A run that was stopped by a signal, whenever, and resumed is the uninterrupted one bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_same_end, interrupt, train

from fixlm.runs import checkpoint
from fixlm.training import result, trainer

RECIPES = [
    "--output-embed learned",
    "--output-embed tied",
    "--output-embed tied --embed-size 12",
    "--output-embed random-orthogonal --output-dim 8",
    "--output-embed hadamard",
    "--output-embed hadamard --output-dim 12 --input-embed fixed",
    "--output-embed hadamard --input-embed same --alpha 9",
    "--output-embed sylvester --no-normalize",
    "--output-embed word2vec --output-dim 8 --word2vec-epochs 1 --cross-fit 3",
    "--output-embed pmi --output-dim 8 --input-embed random-orthogonal",
    "--output-embed pmi --output-dim 8 --precision bfloat16",
    "--output-embed pmi --output-dim 8 --embed-size 8 --input-start pmi --cross-fit 4 --learned-words 5",
    "--output-embed pmi --output-dim 8 --embed-size 6 --input-start pmi --cross-fit 4 --precision bfloat16",
    "--output-embed pmi --output-dim 8 --embed-size 8 --input-start pmi --learned-words 5 --tail-dim 3",
    "--output-embed pmi --output-dim 8 --embed-size 8 --cross-fit 4 --learned-words 5 --tail-clusters 2",
    "--output-embed pmi-signs --output-dim 20 --pmi-signs-rank 6 --cross-fit 4",
    "--output-embed cca --output-dim 8 --embed-size 6 --input-start cca --cca-lags 1,3 --cross-fit 4",
    "--output-embed hadamard --bias-start zero --dropout 0.5 --epochs 2 --batch-size 50",
    "--output-embed random-orthogonal --tokenizer sentencepiece --vocab-size 280",
    "--output-embed walsh --walsh-families 16 --walsh-pmi-dim 4",
    "--output-embed walsh --walsh-families 16 --walsh-pmi-dim 4 --precision bfloat16",
    "--output-embed walsh --walsh-families 16 --walsh-pmi-dim 4 --learned-words 5",
    "--output-embed VECTORS",
    "--output-embed adaptive --adaptive-cutoffs 3,8 --adaptive-divisor 2 --output-start hadamard",
    "--output-embed hadamard --average ema --ema-decay 0.9 --weight-drop 0.3 --dropout-embedding 0.2",
    "--output-embed pmi --output-dim 8 --vary-bptt --ar 2 --tar 1 --schedule constant --epochs 2 --batch-size 50",
    "--output-embed tied --optimizer sgd --lr 5 --num-layers 3 --last-hidden-size 12",
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_stopped_twice_is_the_uninterrupted_one(
    recipe: str, small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    if "VECTORS" in recipe:
        words = ["the", "cat", "dog", "."]
        rows = [f"{word} {i} {i * i} 1" for i, word in enumerate(words)]
        (tmp_path / "vectors.txt").write_text("\n".join(rows))
        recipe = recipe.replace("VECTORS", str(tmp_path / "vectors.txt"))
    flags = [*small, *recipe.split()]
    assert train(*flags, "--run", str(tmp_path / "whole")) == 0
    at_step(3, interrupt)  # between checkpoints, in the midst of an epoch
    at_step(13, interrupt)
    assert train(*flags, "--run", str(tmp_path / "cut")) == 130
    (tmp_path / "vectors.txt").unlink(missing_ok=True)  # the run has its own copy of the matrix
    assert train("--resume", "--run", str(tmp_path / "cut")) == 130
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_run_can_be_stopped_at_any_step(small: list[str], tmp_path: Path, at_step: Callable[..., None]) -> None:
    flags = [*small, "--output-embed", "hadamard", "--run"]
    assert train(*flags, str(tmp_path / "whole")) == 0
    run = str(tmp_path / "cut")
    for step in range(1, 25):
        at_step(step, interrupt)
        assert train(*(["--resume", "--run"] if step > 1 else flags), run) == 130
    assert train("--resume", "--run", run) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_run_goes_on_that_has_seen_no_word_of_a_cluster(
    small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    flags = [*small, *["--output-embed", "adaptive", "--adaptive-cutoffs", "8,13", "--batch-size", "1", "--bptt", "4"]]
    assert train(*flags, "--run", str(tmp_path / "whole")) == 0
    at_step(1, interrupt)
    assert train(*flags, "--run", str(tmp_path / "cut")) == 130
    saved = checkpoint.newest(tmp_path / "cut" / "checkpoints")
    assert saved is not None
    assert not [name for name in saved.training() if name.startswith("optimizer.exp_avg.output.softmax.tail.1")]
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_run_on_pieces_goes_on_where_its_model_has_moved(
    small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    flags = [*small, "--output-embed", "hadamard"]
    pieces = ["--tokenizer", "sentencepiece", "--vocab-size", "280", "--max-steps", "1"]
    assert train(*flags, *pieces, "--run", str(tmp_path / "first")) == 0
    model = (tmp_path / "first" / "tokenizer.model").rename(tmp_path / "own.model")
    at_step(3, interrupt)
    assert train(*flags, "--tokenizer", str(model), "--run", str(tmp_path / "run")) == 130
    model.unlink()
    assert train("--resume", "--run", str(tmp_path / "run")) == 0


# --- signals -----------------------------------------------------------------------------------------------


def sending(number: int, at_call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which has a signal sent to this process when it is called for that time."""
    calls = [0]

    def function(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == at_call:
            os.kill(os.getpid(), number)
        return real(*arguments, **keywords)

    return function


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("what", "at_call", "message"),
    [
        ("save", 2, "stopped after step 3 and saved; --resume goes on from here"),
        ("save", 5, "stopped after step 12 and saved; --resume goes on from here"),
        ("evaluate", 1, "stopped after step 12 and saved; --resume goes on from here"),
        ("evaluate", 2, "stopped after step 24 and saved; --resume goes on from here"),
        ("target_nats", 1, "stopped while scoring; --resume scores it again"),
    ],
)
def test_a_signal_during_a_save_or_an_evaluation(
    what: str, at_call: int, message: str, number: int, small: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    flags = [*small, "--output-embed", "tied", "--checkpoint-every", "3", "--run"]
    assert train(*flags, str(tmp_path / "whole")) == 0
    module = {"save": checkpoint, "evaluate": trainer, "target_nats": result}[what]
    with monkeypatch.context() as patch:
        patch.setattr(module, what, sending(number, at_call, getattr(module, what)))
        assert train(*flags, str(tmp_path / "cut")) == 128 + number
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == f"fixlm: {message}"
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_signal_after_the_last_look_at_it_is_not_forgotten(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes just when step 5 was found to need no save: what the message says is saved is saved."""
    real = trainer.StopRequest

    class Late(real):  # type: ignore[misc, valid-type]
        looks = 0

        @property
        def signal_number(self) -> int:
            Late.looks += 1
            if Late.looks == 6:  # the first look is the constructor's
                os.kill(os.getpid(), signal.SIGINT)
                return 0
            return self.number

        @signal_number.setter
        def signal_number(self, number: int) -> None:
            self.number = number

    monkeypatch.setattr(trainer, "StopRequest", Late)
    assert train(*small, "--output-embed", "tied", "--run", str(tmp_path / "run")) == 130
    last = os.readlink(tmp_path / "run/checkpoints/last")
    assert last != "step-0"
    assert f"stopped after {last.replace('-', ' ')} and saved" in capsys.readouterr().err


def test_an_interruption_before_the_first_step_leaves_no_directory(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainer, "new_model", sending(signal.SIGINT, 1, trainer.new_model))
    assert train(*small, "--output-embed", "tied", "--run", str(tmp_path / "run")) == 130
    said = capsys.readouterr().err.splitlines()  # that the splits of the tiny text share lines comes first
    assert said[-1] == "fixlm: interrupted"
    assert all(line.startswith("warning: ") for line in said[:-1])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_run_at_once(second: int, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    program = f"""
import os, signal, sys
from fixlm import cli
from fixlm.training.trainer import Trainer
step = Trainer._step
def step_and_signal(trainer):
    step(trainer)
    if trainer.at.step == 5:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), {second})
        print("still here", flush=True)
Trainer._step = step_and_signal
sys.exit(cli.main(sys.argv[1:]))
"""
    arguments = ["train", *small, "--output-embed", "tied", "--checkpoint-every", "3", "--run", str(run)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -second
    assert done.stdout == ""
    assert os.readlink(run / "checkpoints/last") == "step-3"
    assert train("--resume", "--run", str(run)) == 0
