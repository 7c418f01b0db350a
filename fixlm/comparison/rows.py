"""Rows of the table: settings, each with its runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fixlm.comparison.stored_run import DONE, StoredRun
from fixlm.config.read import by_flag

if TYPE_CHECKING:
    from fixlm.comparison.plan import PlannedRun


@dataclass(frozen=True)
class Row:
    """One setting with its runs, a seed each."""

    name: str
    runs: Sequence[StoredRun]

    @cached_property
    def done(self) -> list[StoredRun]:
        """The runs that have a result."""
        return [run for run in self.runs if run.state == DONE]

    @property
    def complete(self) -> bool:
        """Whether all its runs have a result."""
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
        return [value for run in self.done if (value := run.perplexity(split)) is not None]

    def numbers(self, *keys: str) -> list[float]:
        """A number of ``result.json`` of each run that is done and has it."""
        return [value for run in self.done if (value := run.number(*keys)) is not None]

    @property
    def validation(self) -> float:
        """Mean validation perplexity; infinity where there is none, so that such rows come last."""
        mean, _ = mean_and_deviation(self.perplexities("valid"))
        return math.inf if mean is None else mean


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (over n − 1); None where there are too few values for one.

    `statistics` rounds once, at the end; the sums of numpy and pandas differ from it in the last digit.
    """
    mean = statistics.fmean(values) if values else None
    spread = len(values) > 1 and math.isfinite(sum(values))  # a perplexity may overflow
    return mean, statistics.stdev(values) if spread else None


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """By mean validation perplexity, texts apart; what has none stays in the given order, at the end of its text."""
    rows = list(rows)
    corpora = [row.corpus for row in rows if row.corpus]
    places = {corpus: place for place, corpus in enumerate(dict.fromkeys(corpora))}
    return sorted(rows, key=lambda row: (places.get(row.corpus or "", math.inf), row.validation))


def best_by_validation(rows: Sequence[Row], key: str | Callable[[Row], Any]) -> list[Row]:
    """The row with the lowest mean validation perplexity of each group, in the order of the groups' first rows.

    Rows of different texts are never of one group. Rows with a run that failed or is not done are no candidates: the
    mean of the seeds that came through flatters.

    Args:
        key: what the rows of a group have in common: a flag such as ``output-embed``, without dashes in front, or a
            function of the row.
    """
    best: dict[Any, Row] = {}
    for row in rows:
        if row.complete:
            group = row.corpus, row.flags.get(f"--{key}") if isinstance(key, str) else key(row)
            if group not in best or row.validation < best[group].validation:
                best[group] = row
    return [*best.values()]


def rows_of(planned: Sequence[PlannedRun], runs: Sequence[StoredRun]) -> list[Row]:
    """The settings of a plan in their order, with what was found of their runs."""
    found: dict[str, list[StoredRun]] = {}
    for each, run in zip(planned, runs, strict=True):
        found.setdefault(each.setting.name, []).append(run)
    return [Row(name, of_setting) for name, of_setting in found.items()]
