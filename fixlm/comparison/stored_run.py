"""A run as it is stored, in its directory or in a summary: all that tables and plots read of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixlm.runs.result_file import perplexity
from fixlm.runs.status import Status

if TYPE_CHECKING:
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
        file: that has its summary among others; ``path`` is then where the run directory would be.
    """

    seed: int
    path: Path
    config: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    status: Status | None = None
    read_metrics: Callable[[], Iterable[Mapping[str, Any]]] = field(default=tuple, compare=False, repr=False)
    file: Path | None = None

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
        from fixlm.config.schema import OptimizationConfig
        from fixlm.training.windows import Windows

        assert self.config is not None
        settings = OptimizationConfig(**self.config["optimization"])
        return Windows(self.config["corpus"]["tokens"]["train"] // settings.batch_size, settings)

    @property
    def epochs(self) -> float | None:
        """Passes over the train split; None for a run that is not done."""
        return None if self.result is None else self.windows.passes(self.result["steps"])

    def number(self, *keys: str) -> float | None:
        """A number of ``result.json``, where these keys lead; None if it is not there."""
        value: Any = self.result
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def perplexity(self, split: str) -> float | None:
        """Per word of the original text, where tokens are pieces too; None for a run that is not done."""
        return None if self.result is None else perplexity(self.result[split])

    def perplexity_with_ngrams(self, split: str) -> float | None:
        """The same of the model mixed with n-grams; None for a run that was not scored so."""
        mixed = self.number("with_ngrams", split)
        return perplexity(mixed) if isinstance(mixed, Mapping) else None
