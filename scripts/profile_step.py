"""Where the time of a training step goes, for each output layer.

python scripts/profile_step.py --json profile.json
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmark import processor
from benchmark_cases import STEPS, our_step
from benchmark_layers import Sizes
from places import require_places
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from embeddings.files import write_json
from embeddings.options import Checked, Count, option
from fixlm.cli import run
from fixlm.config.command_line import read_command_line
from fixlm.runs.versions import versions

REPEATED = 5  # steps, after a first one that compiles and allocates
PARTS = {
    "LSTM": ("rnn_layer", "lstm", "RnnLayer", "LSTMLayer"),
    "output layer": ("CrossEntropy", "LossByTiles", "aten::mm", "aten::addmm", "aten::addmv"),
    "input embedding": ("Lookup", "embedding"),
    "AdamW": ("adamw", "zero_grad"),
    "clipping": ("vector_norm", "aten::mul_"),
}
"""What the names of torch's operations contain, for each part; the rest is everything else."""


@dataclass(frozen=True)
class Settings(Checked):
    """What is profiled."""

    json: str | None = option(None, "JSON file to write the figures to")
    threads: Count = option(2, "number of torch's threads")


def command(arguments: Sequence[str]) -> None:
    """Parses, profiles and prints."""
    settings = read_command_line(arguments, Settings, __doc__)
    require_places(json=settings.json)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(1)
    sizes = Sizes()
    shares = {name: profile(layer, sizes) for name, layer in STEPS.items()}
    for name, parts in shares.items():
        print(f"{name}: " + ", ".join(f"{part} {share:.1f} %" for part, share in parts.items()))
    if settings.json is not None:
        report = {"processor": processor(), "threads": settings.threads, "versions": versions()}
        write_json(Path(settings.json), {"percent": shares, **report})


def profile(layer: str, sizes: Sizes) -> dict[str, float]:
    """Percent of the time of some steps that each part takes."""
    step = our_step(layer, sizes)
    step()
    with torch_profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(REPEATED):
            step()
    times = dict.fromkeys([*PARTS, "rest"], 0.0)
    for event in found.events():
        times[part_of(event)] += event.self_cpu_time_total
    return {part: round(100 * time / sum(times.values()), 1) for part, time in times.items()}


def part_of(event: FunctionEvent) -> str:
    """Of an operation: that of the outermost one that called it and has a part of its own."""
    caller = part_of(event.cpu_parent) if event.cpu_parent else "rest"
    if caller != "rest":
        return caller
    return next((part for part, names in PARTS.items() if any(name in event.name for name in names)), "rest")


if __name__ == "__main__":
    sys.exit(run(command))
