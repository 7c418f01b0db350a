"""A comparison from the command line's point of view: what it trains, skips, resumes, refuses and says."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_end, interrupt, train

from fixlm import cli
from fixlm.comparison import runner
from fixlm.comparison.comparison import compare
from fixlm.comparison.plan import Plan, Setting, read_plan, write_plan
from fixlm.comparison.time_left import Work, in_words, seconds_left
from fixlm.comparison.training_process import TrainingProcess
from fixlm.runs.directory import RunDirectory
from fixlm.runs.run_files import RunFiles
from fixlm.training import fit as training
from fixlm.training.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture
def common(tiny_corpus: Path) -> dict[str, Any]:
    """The flags of `small`, as a study has them."""
    sizes = {"hidden-size": 16, "embed-size": 16, "batch-size": 4, "bptt": 10, "max-steps": 24, "threads": 1}
    return {"data": str(tiny_corpus), **sizes, "validate-every": 12}


def run(*arguments: object) -> int:
    return cli.main(["compare", *map(str, arguments)])


def written(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file() and path.parent != directory
    }


def cells(directory: Path, stem: str = "table") -> dict[str, list[str]]:
    """The rows of the Markdown table by setting, without links."""
    rows = {}
    for line in (directory / f"{stem}.md").read_text().splitlines()[2:]:
        if line.startswith("|"):
            name, *rest = [cell.strip() for cell in line.strip("|").split(" | ")]
            rows[name.partition("](")[0].lstrip("[")] = rest
    return rows


def status(path: Path) -> dict[str, Any]:
    return json.loads((path / "status.json").read_text())


def read_table(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "table.json").read_text())


def test_a_grid_is_trained_once(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = [tmp_path / "grid", *small, "--output-embed", "tied,hadamard", "--lr", "3e-2,0.01", "--seed", "1,2"]
    assert run(*grid) == 0
    said = capsys.readouterr()
    trained = [line.rpartition(" ")[2] for line in said.err.splitlines() if "; training " in line]
    assert trained == [  # one seed of everything before the second of anything
        f"{layer}-lr{rate}-seed{seed}" for seed in (1, 2) for layer in ("tied", "hadamard") for rate in ("0.03", "0.01")
    ]  # fmt: skip
    assert "compare: 0 of 8 runs done, time left is not known before the first steps; training" in said.err
    assert "compare: 7 of 8 runs done, less than a minute left; training" in said.err
    assert said.out == (tmp_path / "grid" / "table.md").read_text()
    rows = cells(tmp_path / "grid")
    means = {row["setting"]: row["valid"]["mean"] for row in read_table(tmp_path / "grid")["rows"]}
    assert [*rows] == [*sorted(means, key=means.__getitem__), f"word frequencies alone ({Path(small[1]).name})"]
    assert rows["hadamard, lr 0.03"][:3] == ["13", "4,557", "16"]
    before = written(tmp_path / "grid")
    assert run(*grid) == 0
    said = capsys.readouterr()
    assert said.err == "compare: all 8 runs are done\n"  # nothing was even read
    assert run(tmp_path / "grid") == 0  # its plan.json says the same
    assert capsys.readouterr().out == said.out
    assert written(tmp_path / "grid") == before


def test_a_run_is_the_one_that_train_gives(small: list[str], tmp_path: Path) -> None:
    assert run(tmp_path / "grid", *small, "--output-embed", "tied,pmi", "--output-dim", "8") == 0
    for layer in ("tied", "pmi"):
        alone = ["--output-embed", layer, "--run", str(tmp_path / layer)]
        alone += ["--output-dim", "8"] if layer == "pmi" else []
        assert train(*small, *alone) == 0
        assert_same_end(tmp_path / "grid" / f"{layer}-seed1", tmp_path / layer)


def test_a_cut_run_goes_on(
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_step: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = ["grid", *small, "--output-embed", "tied,hadamard"]
    at_step(7, interrupt)
    assert run(*grid) == 130
    error = capsys.readouterr().err
    assert "fixlm: stopped, and what was trained is saved; the same command goes on from here" in error
    assert status(tmp_path / "grid" / "tied-seed1")["state"] == "stopped"
    rows = cells(tmp_path / "grid")
    assert rows["tied"][3:6] == ["not finished", "not finished", "[1](tied-seed1/log.txt) (not finished)"]
    assert rows["hadamard"][3] == "not started"
    assert run(*grid) == 0
    assert "going on with tied-seed1" in capsys.readouterr().err
    assert train(*small, "--output-embed", "tied", "--run", "alone") == 0
    assert_same_end(tmp_path / "grid" / "tied-seed1", tmp_path / "alone")
    log = (tmp_path / "grid" / "tied-seed1" / "log.txt").read_text()
    assert status(tmp_path / "grid" / "tied-seed1") == {"state": "done", "reason": "", "runs_at_a_time": 1}
    assert "going on from step-7 of 24" in log
    assert "step 24: validation perplexity" in log
    assert str(tmp_path) not in log


def test_the_log_has_the_progress_that_a_terminal_shows_as_bars(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run(tmp_path, *small, "--output-embed", "tied") == 0
    assert "train | epoch 1 loss" in (tmp_path / "tied-seed1" / "log.txt").read_text()
    assert logging.getLogger("fixlm").handlers == []


def test_a_directory_with_another_run_is_refused_before_anything_is_trained(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--output-embed", "tied", "--lr", "0.5", "--seed", "2", "--run", str(tmp_path / "tied-seed2")]
    assert train(*small, *other) == 0
    (tmp_path / "pmi-seed1").mkdir()
    (tmp_path / "pmi-seed1" / "letter.txt").write_text("mine")
    capsys.readouterr()
    assert run(tmp_path, *small, "--output-embed", "tied,pmi", "--seed", "1,2") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert lines == [
        f"fixlm: error: {tmp_path}/pmi-seed1: there is something in it, but no run. Fix: another directory for the "
        "comparison, or remove it",
        f"fixlm: error: {tmp_path}/tied-seed2: a run of other settings is there (found --lr 0.5, not 0.012). "
        "Fix: another directory for the comparison, or another name for the setting",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pmi-seed1", "tied-seed2"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_is_noted_and_the_others_go_on(
    jobs: int, common: dict[str, Any], tmp_path: Path, log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        Setting("too small", {"output-embed": "hadamard", "output-dim": 1}),
        Setting("tied", {"output-embed": "tied"}),
    ]
    result = compare(tmp_path, settings, [1], common, jobs=jobs)
    assert [row.name for row in result.rows] == ["tied", "too small"]
    (failed,) = result.failed
    assert failed.reason.startswith("--output-dim: the Hadamard rule has ")
    assert cells(tmp_path)["too small"] == ["–", "–", "–", "failed", "failed", "1 (failed)", *["–"] * 5]
    assert f"- too-small-seed1: failed: {failed.reason}." in (tmp_path / "table.md").read_text()
    assert f"compare: too-small-seed1 failed: {failed.reason}" in log
    assert not (tmp_path / "too-small-seed1").exists()
    assert run(tmp_path) == 1  # of its plan.json
    assert "fixlm: 1 run failed; the same command tries again" in capsys.readouterr().err
    shared = "Trained 2 at a time, so their speeds compare nothing: tied-seed1."
    assert (shared in (tmp_path / "table.md").read_text()) == (jobs == 2)


def test_a_run_that_diverges_says_so_in_later_tables_too(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def poisoned(trainer: Trainer) -> None:
        if trainer.at.step == 14 and trainer.config.model.output_embed == "tied":
            with torch.no_grad():
                trainer.model.lstm.weight_ih_l0.fill_(float("nan"))
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", poisoned)
        assert run(tmp_path, *small, "--output-embed", "tied,learned", "--seed", "1,2") == 1
    assert run(tmp_path, "--table-only") == 0
    assert cells(tmp_path)["tied"][3:5] == ["failed", "failed"]
    assert "tied-seed1: failed: step 15: the loss or its gradient is not finite" in (tmp_path / "table.md").read_text()
    assert cells(tmp_path)["learned"][5].count("](learned-seed") == 2
    assert run(tmp_path) == 0  # tried again, now without the poison
    assert "failed" not in (tmp_path / "table.md").read_text()


def test_a_log_that_cannot_be_written_costs_one_run(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Any, *arguments: Any, **keywords: Any) -> Any:
        if str(path).endswith("tied-seed1/log.txt"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return open(path, *arguments, **keywords)

    monkeypatch.setattr(runner, "open", full, raising=False)
    assert run(tmp_path, *small, "--output-embed", "tied,learned") == 1
    found = "tied-seed1/log.txt: cannot be written (found No space left on device)"
    assert found in (tmp_path / "table.md").read_text()
    assert cells(tmp_path)["learned"][3] != "failed"


def test_a_fault_of_the_program_costs_one_run(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: Any, *given: Any, **more: Any) -> Any:
        return real(config, *given, **more) if config.model.output_embed == "tied" else 1 / 0

    real = training.train
    monkeypatch.setattr(training, "train", broken)
    assert run(tmp_path, *small, "--output-embed", "learned,tied") == 1
    assert "Traceback" in capsys.readouterr().err
    assert "learned-seed1: failed: ZeroDivisionError: division by zero." in (tmp_path / "table.md").read_text()
    assert cells(tmp_path)["tied"][3] != "failed"


def test_everything_that_is_wrong_is_told_at_once(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["--output-embed", "tied,pmj", "--lr", "0.01,fast", "--epochs", "0"]
    assert run(tmp_path / "grid", *small, *grid) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fixlm: error: ")]
    assert [line.removeprefix("fixlm: error: ").partition(" (")[0].partition(". Fix")[0] for line in lines] == [
        "--epochs: out of range",
        "tied, lr fast: --lr: not a number",
        "pmj, lr 0.01: --output-embed: unknown output embedding 'pmj'",
    ]
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lr 0.1,,0.2", "--lr: an empty value between commas (found 0.1,,0.2)."),
        ("--lr 0.1,0.1", "--lr: a value stands there twice (found 0.1,0.1)."),
        ("--seed 1,two", "--seed: not whole numbers (found 1,two)."),
        ("--output-embed tied --pmi-window 3", "--pmi-window: has no effect on any setting. Fix: remove the flag"),
        ("--data no/such", "--data: there is no such folder (found no/such"),
        ("--output-embed tied --best-by lrr", "--best-by: unknown flag 'lrr'. Fix: Did you mean 'lr'?"),
        ("--jobs 0", "--jobs: out of range (found 0, expected a whole number at least 1)."),
        ("--batch-size 4,9000", "--data: the train split is too short for the batch"),
        ("--run x", "--run: unknown flag"),
        ("--plan none.json", "none.json: cannot be read (found No such file or directory)."),
        ("", "grid: there is no plan.json to go on with. Fix: name the grid"),
        ("--table-only", "grid: there is no run below it."),
        ("--table-only --output-embed tied", "grid: no run of this comparison is there"),
    ],
)
def test_refusals(
    flags: str,
    message: str,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [] if not flags or "--data" in flags or flags == "--table-only" else ["--data", str(tiny_corpus)]
    assert run("grid", *data, *flags.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fixlm: error: ")]
    assert line.startswith(f"fixlm: error: {message}")
    assert not Path("grid").exists()


def test_a_run_that_was_cut_goes_on_with_a_text_that_moved(
    small: list[str], tmp_path: Path, tiny_corpus: Path, at_step: Callable[..., None]
) -> None:
    text = tmp_path / "text"
    shutil.copytree(tiny_corpus, text)
    flags = [*small, "--output-embed", "tied"]
    flags[flags.index("--data") + 1] = str(text)
    at_step(7, interrupt)
    assert run(tmp_path / "grid", *flags) == 130
    text.rename(tmp_path / "moved")
    assert run(tmp_path / "grid", "--data", tmp_path / "moved") == 0
    assert cells(tmp_path / "grid")["tied"]


def test_the_same_text_at_another_place_is_the_same_run(
    small: list[str], tmp_path: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    for folder in (moved, other):
        folder.mkdir()
        for split in ("train", "valid", "test"):
            (folder / f"{split}.txt").write_text((tiny_corpus / f"{split}.txt").read_text())
    (other / "test.txt").write_text("the cat .\n" * 50)
    assert run(tmp_path / "grid", *small, "--output-embed", "tied") == 0
    before = written(tmp_path / "grid")
    assert run(tmp_path / "grid", "--data", moved) == 0
    assert written(tmp_path / "grid") == before
    capsys.readouterr()
    assert run(tmp_path / "grid", "--data", other) == 2
    assert f"(found --data with another text ({tiny_corpus.name}))" in capsys.readouterr().err


def test_jobs_are_processes_that_share_the_time(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "two", *small, "--output-embed", "tied,hadamard", "--jobs", "2", "--no-normalize") == 0
    error = capsys.readouterr().err
    assert "hadamard-seed1: step 24: validation perplexity" in error  # each line with its run's name
    assert run(tmp_path / "one", *small, "--output-embed", "tied,hadamard", "--no-normalize") == 0
    for name in ("tied-seed1", "hadamard-seed1"):
        assert_same_end(tmp_path / "two" / name, tmp_path / "one" / name)
    assert status(tmp_path / "two" / "tied-seed1")["runs_at_a_time"] == 2
    assert "perplexity: valid " in (tmp_path / "two" / "tied-seed1" / "log.txt").read_text()


def test_ctrl_c_stops_all_jobs_and_saves_them(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, sent = TrainingProcess.ended, []

    def interrupt_once_all_train(process: TrainingProcess) -> bool:
        if not sent and len([*tmp_path.glob("*/metrics.jsonl")]) == 2:
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        return ended(process)

    monkeypatch.setattr(TrainingProcess, "ended", interrupt_once_all_train)
    long = ["--epochs", "1000", "--max-steps", "90000"]
    assert run(tmp_path, *small, "--output-embed", "tied,hadamard", "--seed", "1,2", *long, "--jobs", "2") == 130
    for name in ("tied-seed1", "hadamard-seed1"):
        assert status(tmp_path / name) == {"state": "stopped", "reason": "", "runs_at_a_time": 2}
        log = (tmp_path / name / "log.txt").read_text()
        assert "and saved; --resume goes on from here" in log
        assert (tmp_path / name / "checkpoints" / "last").exists()
    assert cells(tmp_path)["tied"][3] == "not finished, not started"
    assert not (tmp_path / "tied-seed2").exists()


def test_a_process_that_is_killed_is_a_run_that_failed(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = TrainingProcess.ended

    def kill_once_it_trains(process: TrainingProcess) -> bool:
        if (process.path / "metrics.jsonl").exists():
            process._popen.kill()
        return ended(process)

    grid = [tmp_path, *small, "--output-embed", "tied", "--jobs", "2", "--epochs", "1000"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProcess, "ended", kill_once_it_trains)
        assert run(*grid, "--max-steps", "90000") == 1
    assert status(tmp_path / "tied-seed1")["state"] == "failed"
    assert status(tmp_path / "tied-seed1")["reason"].startswith("ended with status -9: ")
    assert run(tmp_path, "--table-only") == 0
    assert "- tied-seed1: failed: ended with status -9: " in (tmp_path / "table.md").read_text()


def test_seeds_can_be_added_and_the_plan_is_remembered(small: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, *small, "--output-embed", "tied") == 0
    assert run(tmp_path, "--seed", "1,2") == 0
    assert json.loads((tmp_path / "plan.json").read_text())["seeds"] == [1, 2]
    assert " ± " in cells(tmp_path)["tied"][3]


PLAN = """
[common]
hidden-size = 16

[[settings]]
name = "α = 1"
flags = { output-embed = "hadamard", alpha = 1, hidden-size = 512 }

[[settings]]
name = "α learned"
flags = { output-embed = "hadamard" }

[[settings]]
name = "tied"
folder = "the-tied-one"
flags = { output-embed = "tied" }
"""


def test_flags_replace_those_of_a_plan(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN, encoding="utf-8")
    more = ["--hidden-size", "8", "--max-steps", "2", "--seed", "3", "--best-by", "output-embed"]
    assert run(tmp_path, *small, "--plan", plan, *more) == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "alpha-1-seed3", "alpha-learned-seed3", "the-tied-one-seed3",
    }  # fmt: skip
    config = json.loads((tmp_path / "alpha-1-seed3" / "config.json").read_text())
    assert (config["model"]["hidden_size"], config["model"]["alpha"], config["optimization"]["seed"]) == (8, 1.0, 3)
    assert len(cells(tmp_path, "best")) == 3  # hadamard's best, tied and the word frequencies
    capsys.readouterr()
    assert run(tmp_path, "--plan", plan, "--lr", "1,2") == 2
    assert "--lr: takes one value here, in place of that of every setting (found 1, 2)" in capsys.readouterr().err


def test_a_new_grid_may_not_forget_flags_of_the_old_one(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *small, "--output-embed", "tied", "--lr", "0.1") == 0
    plan = (tmp_path / "plan.json").read_bytes()
    capsys.readouterr()
    assert run(tmp_path, *small, "--output-embed", "tied,hadamard") == 2
    error = capsys.readouterr().err
    assert "the plan of this directory has flags that the new grid lacks (found --lr 0.1)" in error
    assert (tmp_path / "plan.json").read_bytes() == plan


def test_a_plan_in_a_file(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(
        json.dumps({"settings": [{"name": "no norm", "flags": {"output-embed": "hadamard", "normalize": False}}]})
    )
    assert run(tmp_path / "grid", *small, "--plan", plan) == 0
    config = json.loads((tmp_path / "grid" / "no-norm-seed1" / "config.json").read_text())
    assert config["model"]["normalize"] is False
    plan.write_text('{"settings": [{"flags": {}}]}')
    assert run(tmp_path / "grid", "--plan", plan) == 2
    assert f"{plan}: not a plan (found " in capsys.readouterr().err


def test_time_left_is_that_of_the_setting_or_else_of_the_layer_or_else_of_all() -> None:
    done = [Work("a", "tied", 1000, 10.0), Work("a", "tied", 3000, 20.0), Work("b", "pmi", 1000, 50.0)]
    assert seconds_left([Work("a", "tied", 2000)], done) == pytest.approx(2000 * 30 / 4000)
    assert seconds_left([Work("c", "pmi", 2000)], done) == pytest.approx(2000 * 50 / 1000)
    assert seconds_left([Work("d", "walsh", 2000)], done) == pytest.approx(2000 * 80 / 5000)
    assert seconds_left([Work("a", "tied", 2000), Work("c", "pmi", 2000)], done, 2) == pytest.approx((15 + 100) / 2)
    assert seconds_left([Work("a", "tied", 2000)], done, 4) == pytest.approx(15)  # one run is never split
    assert seconds_left([Work("a", "tied", 2000)], []) is None
    assert seconds_left([], []) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "time left is not known before the first steps"),
        (12, "less than a minute left"),
        (200, "about 3 min left"),
        (7800, "about 2 h 10 min left"),
        (3590, "about 1 h 0 min left"),
    ],
)
def test_time_left_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


def test_a_setting_may_have_seeds_of_its_own(tmp_path: Path) -> None:
    plan = Plan(
        [Setting("pmi", {"output-embed": "pmi"}, seeds=[1, 2, 3]), Setting("tied", {"output-embed": "tied"})], seeds=[1]
    )
    names = [run.path.name for run in plan.runs(tmp_path)]
    assert names == ["pmi-seed1", "tied-seed1", "pmi-seed2", "pmi-seed3"]
    again = plan.overridden({}, seeds=[7])  # what --seed 7 asks for
    assert [run.path.name for run in again.runs(tmp_path)] == ["pmi-seed7", "tied-seed7"]
    path = tmp_path / "plan.json"
    write_plan(path, plan)
    assert [run.path.name for run in read_plan(path).runs(tmp_path)] == names


def test_a_run_that_another_process_trains_is_left_to_it(small: list[str], tmp_path: Path) -> None:
    grid = [tmp_path / "grid", *small, "--output-embed", "tied", "--seed", "1,2"]
    assert run(*grid) == 0
    other = tmp_path / "grid" / "tied-seed1"
    result = (other / "result.json").read_bytes()
    (other / "result.json").unlink()
    log = (other / "log.txt").read_text()
    with RunDirectory(other).locked():
        assert run(*grid) == 0
        assert (other / "log.txt").read_text() == log
        assert cells(tmp_path / "grid")["tied"][5] == "[1](tied-seed1/log.txt) (not finished), [2](tied-seed2/log.txt)"
        (other / "result.json").write_bytes(result)
        assert run(*grid) == 0
    assert "not finished" not in (tmp_path / "grid" / "table.md").read_text()
    with RunFiles(tmp_path / "new" / "tied-seed1").claimed():  # it is begun, and has written nothing yet
        assert run(tmp_path / "new", *grid[1:]) == 0
        assert cells(tmp_path / "new")["tied"][5].startswith("[1](tied-seed1) (not started), ")


def test_what_is_done_without_ngrams_is_told(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [tmp_path / "grid", *small, "--output-embed", "tied", "--seed", "1"]
    assert run(*grid) == 0
    capsys.readouterr()
    assert run(*grid, "--ngram-order", "2") == 0
    path = tmp_path / "grid" / "tied-seed1"
    how = f"python -m fixlm.evaluate {path} --ngram-order 2 --ngram-tune prints its scores with them"
    assert f"tied-seed1 is done without these n-grams; {how}" in capsys.readouterr().err
    assert run(tmp_path / "new", *small, "--output-embed", "tied", "--ngram-order", "99") == 2
    assert not (tmp_path / "new").exists()
