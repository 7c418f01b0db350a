"""Curves of a run from the records of its metrics: {step: value}."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fixlm.comparison.stored_run import StoredRun
from fixlm.runs.result_file import perplexity

Curve = dict[int, float]


def training_loss(run: StoredRun) -> Curve:
    """Nats a token, with dropout, as a mean over the steps since the record before."""
    return _field(run, "loss")


def alpha(run: StoredRun) -> Curve:
    """α of a fixed layer; nothing for another."""
    return _field(run, "alpha")


def validation_loss(run: StoredRun) -> Curve:
    """Nats a target, without dropout."""
    scores = {step: score.get("nll") for step, score in _scores(run).items()}
    return {step: nats for step, nats in scores.items() if nats is not None}


def validation_perplexity(run: StoredRun) -> Curve:
    """Per word of the original text, as in the table."""
    scores = {step: perplexity(score) for step, score in _scores(run).items()}
    return {step: value for step, value in scores.items() if math.isfinite(value)}


def tokens(run: StoredRun, steps: Sequence[int]) -> list[float]:
    """Tokens of the train split passed by each step, each as often as it was passed."""
    assert run.config is not None
    batch = run.config["optimization"]["batch_size"]
    return [batch * run.windows.steps(0, step) for step in steps]


def seconds(run: StoredRun, steps: Sequence[int]) -> list[float]:
    """Seconds of training steps by each step, from the speeds in the metrics; validation is not counted."""
    speeds = _field(run, "tokens_per_second")
    total, before, passed = 0.0, 0, {0: 0.0}
    for step, speed in sorted(speeds.items()):
        if speed > 0:
            earlier, now = tokens(run, [before, step])
            total += (now - earlier) / speed
            before = step
        passed[step] = total
    # A validation may fall between two records.
    found: list[float] = np.interp(steps, [*passed], [*passed.values()]).tolist()
    return found


Line = tuple[Sequence[float], Sequence[float]]
"""Where the points of a line are, from left to right, and their values."""


def mean(lines: Sequence[Line]) -> Line:
    """The mean of lines, point by point: runs with other seeds are validated at the same steps, after other times.

    Where they have unlike numbers of points, those of the first line are taken, as far as all lines go, and the others
    are read between theirs. Such runs have windows whose lengths vary with the seed, or ended early.
    """
    if len({len(places) for places, _ in lines}) > 1:
        end = min(places[-1] for places, _ in lines)
        places = [place for place in lines[0][0] if place <= end]
        lines = [(places, np.interp(places, *line).tolist()) for line in lines]
    across, up = zip(*lines, strict=True)
    return _means(across), _means(up)


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(each) / len(rows) for each in zip(*rows, strict=True)]


def _field(run: StoredRun, name: str) -> Curve:
    return {
        record["step"]: float(record[name])
        for record in run.metrics
        if isinstance(record.get(name), int | float) and math.isfinite(record[name])
    }


def _scores(run: StoredRun) -> dict[int, Mapping[str, Any]]:
    scores = {record["step"]: record.get("validation") for record in run.metrics}
    return {step: score for step, score in scores.items() if isinstance(score, Mapping)}
