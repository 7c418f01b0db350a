"""A run in one small file: what is kept of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import train

from fixlm.errors import InputError
from fixlm.runs.directory import RunDirectory
from fixlm.runs.status import Status, write_status
from fixlm.runs.summary import read_summary, summarise, summary_path, thinned, write_summary

SCORE = {"perplexity": 5.0, "nll": 1.6, "targets": 9}


def records(count: int, every: int = 10) -> list[dict[str, Any]]:
    """Training records whose loss is their step and whose speed alternates, with validations at 100 and the end."""
    found: list[dict[str, Any]] = []
    for step in range(every, every * count + 1, every):
        speed = 100 if step // every % 2 else 300
        values = {"loss": float(step), "lr": step / 1000, "gradient_norm": 1.0, "tokens_per_second": speed}
        found.append({"step": step, "epoch": 1, **values})
        if step in (100, every * count):
            found.append({"step": step, "epoch": 1, "validation": {**SCORE, "nll": 1 / 3}})
    return found


def test_few_records_stay_as_they_are() -> None:
    assert thinned(records(75)) == records(75)
    assert thinned([]) == []


def test_many_records_become_means_over_their_steps() -> None:
    whole = records(151)
    short = thinned(whole)
    training = [record for record in short if "loss" in record]
    assert len(training) == 45 + 16
    assert [record for record in short if "loss" not in record] == [record for record in whole if "loss" not in record]
    assert [record["step"] for record in short] == sorted(record["step"] for record in short)
    # Steps 10, 20 and 30: as many tokens at each of the speeds 100, 300 and 100 take 3/140 of a second a token.
    assert training[0] == {
        "step": 30, "epoch": 1, "loss": 20.0, "lr": 0.03, "gradient_norm": 1.0, "tokens_per_second": 129,
    }  # fmt: skip
    assert training[-16:] == [record for record in whole if "loss" in record][-16:]


def test_a_mean_counts_each_step_once() -> None:
    uneven = [
        {"step": 10, "loss": 1.0, "gradient_norm": 1.0, "tokens_per_second": 9},
        {"step": 12, "loss": 7.0, "gradient_norm": 1.0, "tokens_per_second": 9},
    ]
    last = [{"step": step, "loss": 1.0, "gradient_norm": 1.0, "tokens_per_second": 9} for step in range(13, 29)]
    mean, *rest = thinned([*uneven, *last], points=17)
    assert mean["loss"] == (10 * 1.0 + 2 * 7.0) / 12
    assert rest == last


def test_a_summary_holds_what_the_run_holds(small: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "a-lr0.1-seed1"
    assert train(*small, "--run", str(directory), "--output-embed", "hadamard") == 0
    path = summary_path(directory)
    assert path == tmp_path / "a-lr0.1-seed1.json"
    write_status(directory / "status.json", Status("done", runs_at_a_time=2))
    write_summary(path, summarise(directory))
    summary, run = read_summary(path), RunDirectory(directory)
    assert (summary["config"], summary["result"]) == (run.read_config(), run.read_result())
    assert summary["status"] == {"state": "done", "runs_at_a_time": 2}
    assert summary["log"] == []
    assert [record["step"] for record in summary["metrics"]] == [record["step"] for record in run.read_metrics()]
    lines = path.read_text().splitlines()
    assert sum(line.startswith('{"step": ') for line in lines) == len(summary["metrics"])  # a line each

    run.result.unlink()
    with pytest.raises(InputError, match="the run is not done"):
        summarise(directory)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda summary: summary.pop("result"), "not the summary of a run (found KeyError('result'))"),
        (lambda summary: summary["result"].pop("valid"), "not the summary of a run (found KeyError('valid'))"),
        (lambda summary: summary["config"]["optimization"].update(lr=-1), "lr: "),
        (lambda summary: summary["status"].update(runs_at_a_time="two"), "not the summary of a run"),
        (lambda summary: summary["metrics"].append({"step": "last"}), "not the summary of a run"),
    ],
)
def test_a_damaged_summary_is_refused_in_one_line(
    damage: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    summary = read_summary(Path(__file__).parents[2] / "results" / "sample-pmi-512-seed1.json")
    damage(summary)
    path = tmp_path / "damaged-seed1.json"
    path.write_text(json.dumps(summary))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_summary(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a-seed1.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_summary(path)
    path.write_bytes(b"\xff{")
    with pytest.raises(InputError, match="not the summary of a run"):
        read_summary(path)
