"""Curves of a run from the records of its metrics: {step: value}."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fixlm.comparison.stored_run import StoredRun, perplexity

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


def mean(curves: Sequence[Mapping[int, float]]) -> Curve:
    """Over the steps that all curves have."""
    common = set.intersection(*({*curve} for curve in curves)) if curves else set()
    return {step: math.fsum(curve[step] for curve in curves) / len(curves) for step in sorted(common)}


def _field(run: StoredRun, name: str) -> Curve:
    return {
        record["step"]: float(record[name])
        for record in run.metrics
        if isinstance(record.get(name), int | float) and math.isfinite(record[name])
    }


def _scores(run: StoredRun) -> dict[int, Mapping[str, Any]]:
    scores = {record["step"]: record.get("validation") for record in run.metrics}
    return {step: score for step, score in scores.items() if isinstance(score, Mapping)}
