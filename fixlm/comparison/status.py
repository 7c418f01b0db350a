"""What the run directories of a comparison hold: which runs are done, cut or not started, and rows of the table."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fixlm.comparison.plan import PlannedRun
from fixlm.config.read import by_flag
from fixlm.config.schema import OptimizationConfig
from fixlm.errors import InputError, InputErrors
from fixlm.runs.directory import RunDirectory
from fixlm.runs.summary import read_summary, summary_path
from fixlm.training.windows import Windows

DONE, CUT, NEW, FAILED = "done", "not finished", "not started", "failed"
LOG = "log.txt"
MARK = "compare: "
"""Begins the lines of a run's log that are read again: how many runs went at a time, and why one failed."""


@dataclass(frozen=True)
class Run:
    """One run as its directory has it, or its summary.

    Args:
        path: the run directory, or the file of the summary.
        state: `DONE`, `CUT` (it can be resumed), `NEW` or `FAILED`.
        reason: why it failed, in one line.
        config: ``config.json``, with the defaults of settings younger than the run; None without one.
        result: ``result.json`` of a run that is done.
        at_a_time: how many runs `fixlm.compare` trained side by side while this one ran; None if not known.
    """

    seed: int
    path: Path
    state: str
    reason: str = ""
    config: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    at_a_time: int | None = None

    @cached_property
    def windows(self) -> Windows:
        """Which tokens each of its steps reads."""
        assert self.config is not None
        settings = OptimizationConfig(**self.config["optimization"])
        return Windows(self.config["corpus"]["tokens"]["train"] // settings.batch_size, settings)

    @property
    def shown_state(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True)
class Row:
    """One setting with its runs, a seed each."""

    name: str
    runs: Sequence[Run]

    @cached_property
    def done(self) -> list[Run]:
        """The runs that have a result."""
        return [run for run in self.runs if run.state == DONE]

    @property
    def complete(self) -> bool:
        """Whether all its runs have one."""
        return len(self.done) == len(self.runs)

    @cached_property
    def flags(self) -> dict[str, Any]:
        """The configuration by flag, ``{"--lr": 0.003, …}``; empty while no run has started."""
        config = next((run.config for run in self.runs if run.config), None)
        return {} if config is None else by_flag(config)

    @property
    def corpus(self) -> str | None:
        """SHA-256 of the text of its runs."""
        return next((run.config["corpus"]["sha256"] for run in self.runs if run.config), None)

    def perplexities(self, split: str) -> list[float]:
        """Of each run that is done; per word of the original text where tokens are pieces."""
        return [perplexity(run.result[split]) for run in self.done if run.result]

    def numbers(self, *keys: str) -> list[float]:
        """A number of ``result.json`` of each run that is done."""
        found = []
        for run in self.done:
            value: Any = run.result
            for key in keys:
                value = value[key]
            found.append(value)
        return found

    def epochs(self) -> list[float]:
        """Passes over the train split of each run that is done."""
        return [
            run.windows.steps(0, run.result["steps"]) / run.windows.read[1]
            for run in self.done
            if run.result and run.config
        ]


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (over n − 1); None where there are too few values for one."""
    mean = statistics.fmean(values) if values else None
    spread = len(values) > 1 and math.isfinite(sum(values))  # a perplexity may overflow
    return mean, statistics.stdev(values) if spread else None


def best_by_validation(rows: Sequence[Row], key: str | Callable[[Row], Any]) -> list[Row]:
    """The row with the lowest mean validation perplexity of each group, in the order of the groups' first rows.

    Rows with a run that failed or is not done are no candidates: the mean of the seeds that came through flatters.

    Args:
        key: what the rows of a group have in common: a flag such as ``output-embed``, or a function of the row.
    """
    best: dict[Any, Row] = {}
    for row in rows:
        if row.complete:
            group = row.flags.get(f"--{key.removeprefix('--')}") if isinstance(key, str) else key(row)
            if group not in best or validation(row) < validation(best[group]):
                best[group] = row
    return [*best.values()]


def validation(row: Row) -> float:
    """Mean validation perplexity; infinity where there is none, so that such rows come last."""
    mean, _ = mean_and_deviation(row.perplexities("valid"))
    return float("inf") if mean is None else mean


def perplexity(score: Mapping[str, Any]) -> float:
    """Per word of the original text, of a score in ``result.json``; infinity for one that overflowed."""
    value = score.get("perplexity_per_word", score["perplexity"])
    return float("inf") if value is None else value


def survey(planned: Sequence[PlannedRun], corpora: Mapping[Path, str] | None = None) -> list[Run]:
    """The state of each run of a grid.

    Args:
        corpora: SHA-256 of the text by run directory; without it, the text of a run is not compared: where the text
            lay when it was trained says nothing by itself.

    Raises:
        InputErrors: one for each directory that holds something else than its run.
    """
    errors: list[InputError] = []
    found = []
    for each in planned:
        try:
            found.append(look(each, None if corpora is None else corpora.get(each.path)))
        except (InputError, InputErrors) as error:
            errors += getattr(error, "errors", [error])
    InputErrors.raise_if_any(errors)
    return found


def look(planned: PlannedRun, corpus: str | None = None) -> Run:
    """One run as it stands in its directory, or in a summary beside the place of the directory.

    Raises:
        InputError, InputErrors: the directory holds another run, or no run.
    """
    path, directory = planned.path, RunDirectory(planned.path)
    if not path.exists() and summary_path(path).is_file():
        path = summary_path(path)
    elif not directory.config.is_file():
        if path.exists() and not directory.is_free():
            what = "there is something in it, but no run"
            raise InputError(path, what, fix="another directory for the comparison, or remove it")
        return Run(planned.seed, path, NEW)
    run = read_run(path, planned.seed)
    assert run.config is not None
    if planned.config is not None:
        asked, there = by_flag(planned.config.to_json()), by_flag(run.config)
        different = [
            f"{flag} {there.get(flag)}, not {value}"
            for flag, value in asked.items()
            if flag != "--data" and there.get(flag) != value
        ]
        if corpus is not None and run.config["corpus"]["sha256"] != corpus:
            different.append(f"--data with another text ({run.config['corpus']['name']})")
        if different:
            what = "a run of other settings is there"
            fix = "another directory for the comparison, or another name for the setting"
            raise InputError(path, what, found=", ".join(different), fix=fix)
    return run


def read_run(path: Path, seed: int | None = None) -> Run:
    """The run in a directory or a summary, whatever it is.

    Raises:
        InputError, InputErrors: it cannot be read.
    """
    if path.is_file():
        summary = read_summary(path)
        config, at_a_time = summary["config"], summary["status"]["runs_at_a_time"]
        seed = config["optimization"]["seed"] if seed is None else seed
        return Run(seed, path, DONE, config=config, result=summary["result"], at_a_time=at_a_time)
    directory = RunDirectory(path)
    config = directory.read_config()
    result = directory.read_result()
    at_a_time, failure = read_log(path / LOG)
    if seed is None:
        seed = config["optimization"]["seed"]
    if result is not None:
        return Run(seed, path, DONE, config=config, result=result, at_a_time=at_a_time)
    state = FAILED if failure else CUT
    return Run(seed, path, state, reason=failure, config=config, at_a_time=at_a_time)


def read_log(path: Path) -> tuple[int | None, str]:
    """How many runs went at a time (the most, if it was resumed), and why the run failed, if that is how it ended."""
    at_a_time, failure = None, ""
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(MARK):
                failure = line.removeprefix(f"{MARK}failed: ") if line.startswith(f"{MARK}failed: ") else ""
                if number := re.fullmatch(rf"{MARK}(\d+) at a time", line):
                    at_a_time = max(at_a_time or 0, int(number[1]))
    return at_a_time, failure


def discover(directory: Path) -> tuple[list[Row], list[str]]:
    """Rows of all runs below a directory that no plan describes: runs that differ in the seed only are one row.

    Returns:
        The rows, and a note about each directory that looks like a run and cannot be read.

    Raises:
        InputError: there is no run.
    """
    groups: dict[str, list[Run]] = {}
    notes = []
    paths = [path.parent for path in directory.glob("*/config.json")]
    paths += [path for path in directory.glob("*-seed*.json") if not path.with_suffix("").is_dir()]
    for path in sorted(paths):
        try:
            run = read_run(path)
        except (InputError, InputErrors) as error:
            notes.append(f"{path.name} is left out: {str(error).splitlines()[0]}")
            continue
        assert run.config is not None
        same = by_flag(run.config) | {"--seed": 0, "--data": run.config["corpus"]["sha256"]}
        key = repr(sorted(same.items()))
        while run.seed in {
            other.seed for other in groups.get(key, ())
        }:  # the same run twice is no second seed
            key += " again"
        groups.setdefault(key, []).append(run)
    if not groups:
        raise InputError(directory, "there is no run below it", fix="name the grid: --output-embed tied,pmi")
    rows = []
    for runs in groups.values():
        runs.sort(key=lambda run: run.seed)
        names = [re.sub(r"(-seed\d+)?(\.json)?$", "", run.path.name, count=1) for run in runs]
        rows.append(Row(names[0], runs))
    alike = [row.name for row in rows]
    return [Row(row.runs[0].path.name, row.runs) if alike.count(row.name) > 1 else row for row in rows], notes
