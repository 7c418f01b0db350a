"""The picture of the speedrun, from a race of two steps."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import train

pytest.importorskip("matplotlib")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("race_report")


def race(run: Path, minutes: float) -> dict[str, Any]:
    from fixlm.runs.summary import summarise

    summary = summarise(run)
    found = {"seed": 1, "minutes": minutes, "test": summary["result"]["test"]["perplexity"], "summary": summary}
    return {"target": 9.0, "runs": [found]}


def test_validations_lie_between_the_start_and_the_end_of_the_process(
    report: Any, small: list[str], tmp_path: Path
) -> None:
    flags = f"--output-embed hadamard --validate-every 6 --run {tmp_path / 'run'}"
    assert train(*small, *flags.split()) == 0
    found = race(tmp_path / "run", 2.0)
    result = found["runs"][0]["summary"]["result"]
    line = report.validations(report.stored(found["runs"][0]), 2.0)
    records = [record for record in found["runs"][0]["summary"]["metrics"] if "validation" in record]
    assert [*line.values()] == [record["validation"]["perplexity"] for record in records]
    assert [*line] == sorted(line)
    begin = 2.0 - (result["seconds"] + 2 * result["validation_seconds"]) / 60
    assert begin < min(line) < max(line) < 2.0  # the test comes after the last of them

    for name in report.RACES:
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    report.plot_races(tmp_path, tmp_path / "minutes.png")
    assert not (tmp_path / "minutes.png").exists()  # the plain program was not timed
    for name, plain in ((report.PLAIN_EPOCH_FILE, {"valid": 99.0}), (report.PLAIN_FILE, {"minutes_an_epoch": 3.0})):
        (tmp_path / name).write_text(json.dumps(plain | {"minutes_of_40_epochs": 120.0}))
    report.plot_races(tmp_path, tmp_path / "minutes.png")
    assert (tmp_path / "minutes.png").stat().st_size > 1000
