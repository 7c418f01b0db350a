"""``status.json``: what it says of a run that goes on, stops or fails, and that damage to it costs nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import interrupt, train

from fixlm.errors import InputError, Interrupted
from fixlm.runs.status import Status, read_status, recorded, write_status
from fixlm.training.trainer import Trainer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a status in a directory that is a run."""
    (tmp_path / "config.json").write_text("{}")
    return tmp_path / "status.json"


def test_what_is_written_is_read(path: Path) -> None:
    status = Status("failed", "step 3: „schlecht“", 2)
    write_status(path, status)
    assert read_status(path) == status
    assert json.loads(path.read_text()) == {"state": "failed", "reason": "step 3: „schlecht“", "runs_at_a_time": 2}
    assert [each.name for each in path.parent.iterdir() if "tmp" in each.name] == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"state": "dancing"}', '{"state": "done", "runs_at_a_time": 0}', "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_a_damaged_status_is_none(path: Path, content: str) -> None:
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert read_status(path) is None
    with recorded(path, 1) as begins:
        begins()
        assert read_status(path) == Status("running", runs_at_a_time=1)
    assert read_status(path) == Status("done", runs_at_a_time=1)


def test_a_run_that_goes_on_was_trained_with_as_many_beside_it_as_ever(path: Path) -> None:
    for at_a_time, largest in ((None, None), (2, 2), (1, 2), (None, 2)):
        with recorded(path, at_a_time):
            pass
        assert read_status(path) == Status("done", runs_at_a_time=largest)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("stopped", 130), Status("stopped")),
        (KeyboardInterrupt(), Status("stopped")),
        (InputError("step 4", "not finite"), Status("failed", "step 4: not finite.")),
        (ZeroDivisionError("division by zero\nhere"), Status("failed", "ZeroDivisionError: division by zero; here")),
        (InputError("no\udcff.txt", "gone"), Status("failed", "no?.txt: gone.")),
    ],
)
def test_why_a_run_ended(path: Path, error: BaseException, status: Status) -> None:
    with pytest.raises(type(error)), recorded(path):
        raise error
    assert read_status(path) == status


def test_a_directory_without_a_run_stays_free(tmp_path: Path) -> None:
    with recorded(tmp_path / "status.json") as begins:
        begins()
    with pytest.raises(InputError), recorded(tmp_path / "status.json"):
        raise InputError("--output-dim", "too small")
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_does_not_end_a_training_for_its_status(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with recorded(path) as begins:
        begins()
    assert not path.exists()


def test_a_training_run_says_how_it_stands(small: list[str], tmp_path: Path, at_step: Callable[..., None]) -> None:
    run = tmp_path / "run"
    path, seen = run / "status.json", []

    def look(trainer: Trainer) -> None:
        seen.append(read_status(path))

    at_step(5, look)
    at_step(7, interrupt)
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 130
    assert (*seen, read_status(path)) == (Status("running"), Status("stopped"))
    path.write_text('{"state": "fai')
    at_step(9, look)
    assert train("--run", str(run), "--resume") == 0
    assert (seen[-1], read_status(path)) == (Status("running"), Status("done"))
    path.unlink()
    path.symlink_to(run / "config.json")
    assert train("--run", str(run), "--resume") == 2  # a link may lead anywhere
