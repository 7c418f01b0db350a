"""Counts what several ranks send each other in a training step, for each output layer, and times the step.

torchrun --nproc-per-node 2 scripts/measure_ranks.py --json ranks.json

Bytes are those of the gradients that one rank gives into all-reduces, counted by the hook of DistributedDataParallel.
Data are random; bytes do not depend on them. Times are medians, taken in turns.
"""

import dataclasses
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from benchmark import processor
from benchmark_cases import STEPS, our_step
from benchmark_layers import Sizes
from places import require_places
from torch.profiler import ProfilerActivity, profile

from embeddings.files import write_json
from embeddings.options import Count, option
from fixlm.cli import run
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError, launched_ranks
from fixlm.output import registry
from fixlm.runs.versions import versions
from fixlm.training.ranks import Ranks, check_ranks, joined

COLLECTIVES = ("all_reduce", "broadcast", "all_gather", "gather", "scatter", "reduce_scatter")


@dataclass(frozen=True)
class Settings(Sizes):
    """What is measured."""

    hidden_size: int = option(256, "H, and N of the fixed matrices: a power of two")
    walsh_families: int = option(4096, "M, the number of families of walsh")
    json: str | None = option(None, "JSON file to write the figures to")
    rounds: Count = option(5, "number of rounds. Each times a step of every layer, with and without the other ranks")


@dataclass
class Case:
    """A layer, with a trained or a frozen input embedding, and what was found of it."""

    layer: str
    frozen_input: bool
    bytes_a_step: int = 0
    collectives: dict[str, int] = dataclasses.field(default_factory=dict)  # calls in a step by name
    seconds: list[float] = dataclasses.field(default_factory=list)
    seconds_apart: list[float] = dataclasses.field(default_factory=list)  # the gradients stay where they are


def command(arguments: Sequence[str]) -> None:
    """Parses, measures; rank 0 prints and writes."""
    settings = read_command_line(arguments, Settings, __doc__)
    require_places(json=settings.json)
    if launched_ranks() == 1:
        fix = "torchrun --nproc-per-node 2 scripts/measure_ranks.py"
        raise InputError("ranks", "there is nothing to send", found=1, expected="2 or more", fix=fix)
    check_ranks(settings.batch_size, "cpu")
    torch.set_num_threads(1)
    with joined() as ranks:
        cases = measure(settings, ranks)
    if ranks.writes:
        report = figures(settings, ranks, cases)
        print_report(report)
        if settings.json is not None:
            write_json(Path(settings.json), report)


def measure(settings: Settings, ranks: Ranks) -> list[Case]:
    """Every layer with a trained input embedding and, where the layer does not train it, with a frozen one."""
    sizes = dataclasses.replace(settings, batch_size=settings.batch_size // ranks.count)
    found = []
    for layer in STEPS:
        for frozen in (False, True):
            if not (frozen and registry.entry(layer).trains_input):
                case = Case(layer, frozen)
                _measure(case, sizes, ranks, settings.rounds)
                found.append(case)
    return found


def _measure(case: Case, sizes: Sizes, ranks: Ranks, rounds: int) -> None:
    torch.manual_seed(1)
    step = our_step(STEPS[case.layer], sizes, frozen=case.frozen_input, loss_of=ranks.loss_of)
    apart = our_step(STEPS[case.layer], sizes, frozen=case.frozen_input)
    for _ in range(2):  # compile, allocate; DistributedDataParallel agrees on its buckets at the second step
        step(), apart()
    before = ranks.bytes_reduced
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        step()
    case.bytes_a_step = ranks.bytes_reduced - before
    names = (event.name.rpartition(":")[2] for event in trace.events() if event.name.startswith(("gloo:", "nccl:")))
    case.collectives = dict(Counter(name for name in names if name in COLLECTIVES))
    for _ in range(rounds):
        ranks.wait()
        case.seconds.append(_seconds(step))
        ranks.wait()
        case.seconds_apart.append(_seconds(apart))


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def figures(settings: Settings, ranks: Ranks, cases: Sequence[Case]) -> dict[str, Any]:
    """All figures, as they stand in the JSON."""
    setting = asdict(settings) | {"ranks": ranks.count, "threads": 1, "processor": processor(), "versions": versions()}
    del setting["json"]
    times = {(case.layer, case.frozen_input): statistics.median(case.seconds) for case in cases}
    rows = [
        {
            "layer": case.layer,
            "frozen_input": case.frozen_input,
            "bytes_a_step": case.bytes_a_step,
            "collectives": case.collectives,
            "step_time_to_tied": round(times[case.layer, case.frozen_input] / times["tied", False], 2),
            "part_of_the_step_that_sends": round(max(0.0, 1 - _median_ratio(case.seconds_apart, case.seconds)), 2),
        }
        for case in cases
    ]
    return {"setting": setting, "rows": rows}


def _median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def print_report(report: dict[str, Any]) -> None:
    """The table of docs/several_processes.md."""
    rows = report["rows"]
    tied = next(row["bytes_a_step"] for row in rows if row["layer"] == "tied")
    print("| layer | input embedding | bytes a step | bytes of tied / these | time of a step |")
    print("|---|---|---:|---:|---:|")
    for row in rows:
        embedding = "frozen" if row["frozen_input"] else "trained"
        cells = [f"{row['bytes_a_step']:,}", f"{tied / row['bytes_a_step']:.2f}", f"{row['step_time_to_tied']:.2f}"]
        print(f"| `{row['layer']}` | {embedding} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(run(command))
