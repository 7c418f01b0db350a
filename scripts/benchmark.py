"""Times output layers, and training steps with them, beside a plain torch program, in one run.

python scripts/benchmark.py --json benchmark.json --plot benchmark.png

Every ratio is the plain program's time over ours, taken in turns: the median over rounds of the ratio within a round,
so that a machine that is slower for a while slows both. Words are drawn by Zipf's law: an adaptive softmax is fast for
frequent ones. The other times do not depend on the data.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import platform
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import benchmark_cases as cases
import numpy as np
import torch
from benchmark_cases import PLAIN, Call, Sizes
from benchmark_report import plot_growth, print_report

from embeddings.options import Count, option
from fixlm.cli import run
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.runs.versions import versions

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
DIMS = (64, 128, 256, 512, 1024, 2048)  # powers of two, as hadamard wants
COMPARED = {
    "loss": cases.loss_calls, "nll": cases.nll_calls, "decode": cases.decode_calls, "step": cases.step_calls,
}  # fmt: skip
FEW_TOKENS = 64  # plain torch holds 4 GB of logits a thousand tokens at a million words


@dataclass(frozen=True)
class Settings(Sizes):
    """What is measured."""

    quick: bool = option(False, "measure only the output layers, decoding and whole steps, in fewer rounds")
    steps_only: bool = option(False, "measure only whole training steps")
    pmi_steps: bool = option(
        False, "measure only whole training steps of pmi with folds, trained rows and short rows, beside tied"
    )
    json: str | None = option(None, "JSON file to write the figures to")
    plot: str | None = option(None, "PNG file for a plot of how times grow with V and N")
    rounds: Count | None = option(None, "number of rounds. Each measures everything once (none: 7, with --quick 3)")
    threads: Count = option(2, "number of torch's threads")


def command(arguments: Sequence[str]) -> None:
    """Parses, measures, prints and writes."""
    settings = read_command_line(arguments, Settings, __doc__)
    for flag, path in (("--json", settings.json), ("--plot", settings.plot)):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise InputError(flag, "there is no such directory", found=Path(path).parent)
    if settings.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot", "matplotlib is not installed", fix="pip install matplotlib")

    torch.set_num_threads(settings.threads)
    torch.manual_seed(1)
    report = measure(settings)
    print_report(report)
    if settings.json is not None:
        Path(settings.json).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if settings.plot is not None and "growth" in report:
        plot_growth(report["growth"], Path(settings.plot))


def measure(settings: Settings) -> dict[str, Any]:
    """All figures, as they stand in the JSON."""
    rounds = settings.rounds or (3 if settings.quick else 7)
    setting = asdict(settings) | {"rounds": rounds, "processor": processor()}
    setting |= {"bfloat16_products": multiplies_bfloat16(), "versions": versions()}
    for name in ("quick", "steps_only", "pmi_steps", "json", "plot"):  # what is asked for, not how it is measured
        del setting[name]
    report: dict[str, Any] = {"setting": setting, "microseconds_per_token": {}, "ratios": {}}
    if settings.pmi_steps:
        times, ratios = in_turns(cases.pmi_step_calls(settings), rounds)
        return report | {"microseconds_per_token": {"pmi_step": times}, "ratios": ratios}
    for name, calls in COMPARED.items():
        if name == "step" or not (settings.steps_only or (settings.quick and name == "nll")):
            report["microseconds_per_token"][name], ratios = in_turns(calls(settings), rounds)
            report["ratios"] |= {f"{key}_{name}": ratio for key, ratio in ratios.items()}
    if not (settings.quick or settings.steps_only):
        report["extra_memory_mb"] = measure_memory(settings, cases.OUTPUTS)
        report["growth"] = measure_growth(max(3, rounds // 2))
    return report


def processor() -> str:
    """Its name and widest vectors."""
    found = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # no Linux, or a processor without a name
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{found}, {torch.backends.cpu.get_cpu_capability()}"


def in_turns(calls: Mapping[str, Call], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median microseconds a token of each call, and median ratio of the first call's to each other's."""
    for call in calls.values():
        call.work()  # compiles, allocates, fills caches
    seconds = np.empty((rounds, len(calls)))
    for turn in range(rounds):
        seconds[turn] = [call.seconds_per_token() for call in calls.values()]
        print(f"\r{len(calls)} in turns: {turn + 1}/{rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    times = np.median(seconds, axis=0) * 1e6  # (calls,)
    ratios = np.median(seconds[:, :1] / seconds[:, 1:], axis=0)  # (calls - 1,)
    return (
        {name: round(float(time), 2) for name, time in zip(calls, times, strict=True)},
        # Three digits, so that a small one is not 0.
        {name: float(f"{ratio:.3g}") for name, ratio in zip([*calls][1:], ratios, strict=True)},
    )


def measure_memory(settings: Settings, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """(d): extra memory of a loss with its gradients, in MB, at B·T and at four times as many tokens."""
    found: dict[str, dict[str, float | None]] = {name: {} for name in names}
    for name in names:
        # The logits of plain torch grow with the tokens: four times as many do not fit everywhere.
        for factor in (1,) if name == PLAIN else (1, 4):
            sized = replace(settings, batch_size=settings.batch_size * factor)
            # In a process of its own, whose memory no other layer has grown.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
                megabytes = processes.submit(extra_memory, name, sized).result()
            found[name][f"{sized.tokens} tokens"] = megabytes
    return found


def extra_memory(name: str, settings: Settings) -> float | None:
    """Peak of the resident memory during a loss and its gradients, less inputs, parameters and gradients: in MB.

    None where the system does not tell.
    """
    torch.set_num_threads(settings.threads)
    layer = cases.build_layer(name, settings)
    hidden, targets = cases.random_tokens(settings, settings.tokens)
    cases.loss_and_gradients(layer, hidden[:16].detach().requires_grad_(), targets[:16])  # compiles, starts threads
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return None
    before = resident("VmRSS")
    layer.loss(hidden, targets).backward()
    gradients = [parameter.grad for parameter in (hidden, *layer.parameters())]
    kept = sum(gradient.numel() * gradient.element_size() for gradient in gradients)
    return round((resident("VmHWM") - before - kept) / 2**20, 1)


def resident(field: str) -> int:
    """Bytes, from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure_growth(rounds: int) -> list[dict[str, Any]]:
    """(e): microseconds a token of loss and gradients as V grows at N = 512, and as N grows at V = 33,278."""
    rows = []
    for axis, size, dim in [("V", size, 512) for size in SIZES] + [("N", 33_278, dim) for dim in DIMS]:
        # Few tokens, since plain torch holds all logits; hadamard gets as many as a round of its threads needs.
        sizes = Sizes(vocabulary_size=size, hidden_size=dim, batch_size=FEW_TOKENS, bptt=1)
        times, _ = in_turns(cases.loss_calls(sizes, cases.GROWN), rounds)
        rows.append({"axis": axis, "V": size, "N": dim, "tokens": FEW_TOKENS, **times})
    return rows


if __name__ == "__main__":
    sys.exit(run(command))
