"""A run in one small JSON file: all that a table or a plot needs, without the weights.

::

    config    the whole ``config.json``
    result    the whole ``result.json``
    status    {"state": "done", "runs_at_a_time": how many runs were trained side by side; null if not recorded}, out of
              ``status.json``
    metrics   the records of ``metrics.jsonl``: all validations, and at most `POINTS` training records (see `thinned`)
    log       lines of ``log.txt``

A directory may hold the summaries of many runs in one file, `SUMMARIES`: a line each, where ``run`` is the name of the
run directory.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embeddings.files import parse_json, write_atomically
from fixlm.errors import InputError
from fixlm.runs.directory import RunDirectory, checked_config
from fixlm.runs.result_file import checked_result
from fixlm.runs.status import parse_status, read_status

SUMMARIES = "runs.jsonl"
POINTS = 75
"""Training records that are kept: one epoch of WikiText-2 has 75, and a plot is too small to show more."""
POINTS_TOGETHER = 30
"""The same where the runs of a study share a file: nothing is drawn of them, and they are many."""
END = 16
"""Training records at the end that are kept as they are. The study gives training losses over the last 150 steps, and
the last record may be of fewer than ten steps."""
DIGITS = 6
"""Significant digits of what is kept of a training record. Scores keep all their digits."""


def summary_path(directory: Path) -> Path:
    """Where the summary of a run stands when its directory is not there: ``tied-seed1`` -> ``tied-seed1.json``."""
    return directory.with_name(f"{directory.name}.json")


def summarise(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The summary of a run that is done, as plain values.

    Raises:
        InputError: it is no run directory, or the run has no result yet.
    """
    run = RunDirectory(directory)
    config, result = run.read_config(), run.read_result()
    if result is None:
        raise InputError(run.path, "the run is not done", found="no whole result.json", fix="--resume it")
    log, status = run.path / "log.txt", read_status(run.status)
    return {
        "config": config,
        "result": result,
        "status": {"state": "done", "runs_at_a_time": status and status.runs_at_a_time},
        "metrics": thinned(run.read_metrics()),
        "log": log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else [],
    }


def thinned(records: Iterable[Mapping[str, Any]], points: int = POINTS) -> list[dict[str, Any]]:
    """All validations and at most so many training records: the last `END` as they are, means of the others."""
    known = [dict(record) for record in records]
    training = [record for record in known if "loss" in record]
    merged = max(0, len(training) - END)
    size = max(1, math.ceil(merged / (points - END)))
    cuts = [*range(0, merged, size), *range(merged, len(training) + 1)]
    found = []
    for start, end in itertools.pairwise(cuts):
        before = training[start - 1]["step"] if start else 0
        found.append(_mean(training[start:end], before))
    validations = [record for record in known if "validation" in record]
    return sorted(found + validations, key=lambda record: record["step"])


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Writes the JSON, whole or not at all, with one line for each record and each line of the log."""
    parts = []
    for key, value in summary.items():
        if isinstance(value, list):
            text = "[\n" + ",\n".join(map(_json, value)) + "\n]"
        else:
            text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
        parts.append(f"{_json(key)}: {text}")
    write_atomically(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def add_summaries(path: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the summaries of runs, by the names of their directories, to one file, a line each.

    Lines of other runs stay as they are. Fewer training records are kept than of a run with its own file.

    Raises:
        InputError: as of `read_summaries`.
    """
    summaries = {
        name: {**summary, "metrics": thinned(summary["metrics"], POINTS_TOGETHER)}
        for name, summary in summaries.items()
    }
    lines = dict(zip(read_summaries(path), path.read_bytes().splitlines(), strict=True)) if path.is_file() else {}
    lines |= {name: _json({"run": name, **summary}).encode() for name, summary in summaries.items()}
    write_atomically(path, b"".join(lines[name] + b"\n" for name in sorted(lines)))


def read_summary(path: Path) -> dict[str, Any]:
    """The summary that `write_summary` wrote, checked like the files of a run directory.

    Raises:
        InputError: it cannot be read, or it is no summary of a run.
    """
    return _checked(_read(path), path)


def read_summaries(path: Path) -> dict[str, dict[str, Any]]:
    """The summaries that `add_summaries` wrote, by the names of their runs' directories; none if there is no file.

    Raises:
        InputError: it cannot be read, or a line is no summary of a run; names the line.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(_read(path).splitlines() if path.is_file() else [], start=1):
        where = f"{path}, line {number}"
        summary = _checked(line, where)
        name = summary.pop("run", None)
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(where, "no name of a run", found=repr(name), expected='"run": the name of its directory')
        if name in found:
            raise InputError(where, "this run is there twice", found=name, fix="remove one of the lines")
        found[name] = summary
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror) from None


def _checked(text: bytes, where: str | Path) -> dict[str, Any]:
    """The summary of a run in JSON, checked like the files of a run directory."""
    try:
        summary: dict[str, Any] = parse_json(text)
        checked_config(summary["config"])
        checked_result(summary["result"])
        if parse_status(summary["status"]) is None:
            raise TypeError("status is none of a run")
        if not all(isinstance(record["step"], int) for record in summary["metrics"]):
            raise TypeError("the step of a record is no whole number")
    except InputError as error:
        raise error.inside(f"{where}: ") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(where, "not the summary of a run", found=repr(error)) from None
    return summary


def _mean(records: Sequence[Mapping[str, Any]], before: int) -> dict[str, Any]:
    """One training record in place of several: the last, with means over the steps since step ``before``."""
    ends = [before, *(record["step"] for record in records)]
    steps = [end - start for start, end in itertools.pairwise(ends)]
    mean = dict(records[-1])
    for name in ("loss", "gradient_norm"):
        mean[name] = math.fsum(n * each[name] for n, each in zip(steps, records, strict=True)) / sum(steps)
    # Seconds are added, not speeds: the time that a plot shows stays the same.
    speeds = [record["tokens_per_second"] for record in records]
    if len(records) > 1 and all(speeds):
        mean["tokens_per_second"] = round(sum(steps) / sum(n / speed for n, speed in zip(steps, speeds, strict=True)))
    return {name: _short(value) for name, value in mean.items()}


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
