"""How the runs of a comparison stand: what their directories hold, and whether it is what the plan asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fixlm.comparison.plan import PlannedRun
from fixlm.config.read import by_flag
from fixlm.config.schema import OptimizationConfig
from fixlm.errors import InputError, InputErrors
from fixlm.runs.directory import RunDirectory
from fixlm.runs.status import Status, parse_status, read_status
from fixlm.runs.summary import read_summary, summary_path
from fixlm.training.windows import Windows

DONE, CUT, NEW, FAILED = "done", "not finished", "not started", "failed"
LOG = "log.txt"


@dataclass(frozen=True)
class StoredRun:
    """One run as it is stored: all that tables and plots read of it.

    Args:
        path: the run directory, or the file of its summary.
        config: ``config.json``, with the defaults of settings that are younger than the run; None before it started.
        result: ``result.json`` of a run that is done.
        status: ``status.json``; None where there is none, as in runs that are older than this file.
        read_metrics: gives the records of ``metrics.jsonl``; called once, when the first curve is drawn.
    """

    seed: int
    path: Path
    config: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    status: Status | None = None
    read_metrics: Callable[[], Iterable[Mapping[str, Any]]] = field(default=tuple, compare=False, repr=False)

    @property
    def state(self) -> str:
        """`DONE`, `FAILED`, `CUT` (the run can be resumed) or `NEW`."""
        if self.result is not None:
            return DONE
        if self.status is not None and self.status.state == "failed":
            return FAILED
        return NEW if self.config is None else CUT

    @property
    def reason(self) -> str:
        """Why it failed, in one line; empty in other states."""
        return self.status.reason if self.state == FAILED and self.status else ""

    @property
    def runs_at_a_time(self) -> int | None:
        """How many runs were trained side by side while this one was; None if that is not recorded."""
        return None if self.status is None else self.status.runs_at_a_time

    @property
    def log(self) -> Path:
        """The file that holds what the run said."""
        return self.path / LOG

    @cached_property
    def metrics(self) -> list[Mapping[str, Any]]:
        """The records of training and validation, in order."""
        return [*self.read_metrics()]

    @cached_property
    def windows(self) -> Windows:
        """Which tokens each of its steps reads."""
        assert self.config is not None
        settings = OptimizationConfig(**self.config["optimization"])
        return Windows(self.config["corpus"]["tokens"]["train"] // settings.batch_size, settings)

    @property
    def epochs(self) -> float | None:
        """Passes over the train split; None for a run that is not done."""
        if self.result is None:
            return None
        return self.windows.steps(0, self.result["steps"]) / self.windows.read[1]

    def number(self, *keys: str) -> float | None:
        """A number of ``result.json``, where these keys lead; None if it is not there."""
        value: Any = self.result
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def perplexity(self, split: str) -> float | None:
        """Per word of the original text, where tokens are pieces too; None for a run that is not done."""
        return None if self.result is None else perplexity(self.result[split])


def perplexity(score: Mapping[str, Any]) -> float:
    """Per word of the original text, of a score in ``result.json``; infinity for one that overflowed."""
    value = score.get("perplexity_per_word", score["perplexity"])
    return float("inf") if value is None else value


def read_run(path: Path, seed: int | None = None) -> StoredRun:
    """The run in a directory or a summary, whatever run it is.

    Raises:
        InputError, InputErrors: it cannot be read.
    """
    if path.is_file():
        summary = read_summary(path)
        config, result, status = summary["config"], summary["result"], parse_status(summary["status"])
        read_metrics = summary["metrics"].copy
    else:
        directory = RunDirectory(path)
        config, result, status = (
            directory.read_config(),
            directory.read_result(),
            read_status(directory.status),
        )
        read_metrics = directory.read_metrics
    seed = config["optimization"]["seed"] if seed is None else seed
    return StoredRun(seed, path, config, result, status, read_metrics)


def survey(planned: Sequence[PlannedRun], corpora: Mapping[Path, str] | None = None) -> list[StoredRun]:
    """The runs of a plan, as far as they are there.

    Args:
        corpora: SHA-256 of the text by run directory; without it, the text of a run is not compared: where the text
            lay when the run was trained says nothing by itself.

    Raises:
        InputErrors: one for each directory that holds something else than its run.
    """
    errors: list[InputError] = []
    found = []
    for each in planned:
        try:
            found.append(_look(each, None if corpora is None else corpora.get(each.path)))
        except (InputError, InputErrors) as error:
            errors += getattr(error, "errors", [error])
    InputErrors.raise_if_any(errors)
    return found


def _look(planned: PlannedRun, corpus: str | None) -> StoredRun:
    """One run of a plan, in its directory or in a summary beside the place of the directory.

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
        return StoredRun(planned.seed, path)
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
