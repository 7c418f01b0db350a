"""The committed runs and benchmarks, which the pages are compared with."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pages import ROOT

from fixlm.runs.summary import read_summaries, read_summary

RESULTS = ROOT / "results"
FILES = sorted(RESULTS.glob("**/*-seed*.json"))
TOGETHER = sorted(RESULTS.glob("*/runs.jsonl"))
BENCHMARKS: dict[str, Any] = json.loads((RESULTS / "benchmark" / "steps.json").read_text())


@cache
def runs() -> dict[str, dict[str, Any]]:
    """Every committed run, by its place below results/: ``layers/tied-seed1``."""
    found = {path.relative_to(RESULTS).with_suffix("").as_posix(): read_summary(path) for path in FILES}
    for path in TOGETHER:
        found |= {f"{path.parent.name}/{name}": each for name, each in read_summaries(path).items()}
    return found


def summary(name: str) -> dict[str, Any]:
    return runs()[f"{name}-seed1"]


def result(name: str) -> dict[str, Any]:
    return summary(name)["result"]


def perplexity(name: str, split: str = "test") -> float:
    """Per word of the text."""
    score = result(name)[split]
    return score.get("perplexity_per_word", score["perplexity"])


def training_loss(run: dict[str, Any]) -> float:
    """Mean over the last 150 steps."""
    late = [each["loss"] for each in run["metrics"] if "loss" in each and each["step"] > run["result"]["steps"] - 150]
    return sum(late) / len(late)


def time_of_step(benchmark: str, layer: str) -> float:
    return BENCHMARKS[benchmark]["microseconds_per_token"]["step"][layer]
