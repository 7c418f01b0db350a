"""Times output layers, and training steps with them, beside a plain torch program, in one run.

python scripts/benchmark.py --json benchmark.json --plot benchmark.png

Every ratio is the plain program's time over ours, taken in turns: the median over rounds of the ratio within a round,
so that a machine that is slower for a while slows both. Words are drawn by Zipf's law: an adaptive softmax is fast for
frequent ones. The other times do not depend on the data.
"""

import contextlib
import ctypes
import multiprocessing
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import benchmark_cases as cases
import benchmark_lstm
import numpy as np
import torch
from benchmark_cases import Call
from benchmark_layers import PLAIN, Sizes, build_layer
from benchmark_report import plot_growth, print_report
from places import require_places

from embeddings.files import write_json
from embeddings.options import Count, option
from fixlm.cli import run
from fixlm.config.command_line import flag_name, read_command_line
from fixlm.errors import InputError
from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.runs.versions import versions

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
DIMS = (64, 128, 256, 512, 1024, 2048)  # powers of two, as hadamard wants
COMPARED = {
    "loss": cases.loss_calls, "nll": cases.nll_calls, "decode": cases.decode_calls, "step": cases.step_calls,
}  # fmt: skip
PARTS = ("steps_only", "pmi_steps", "lstm", "decoding")
"""Flags that measure only this."""
MANY_WORDS = 1_000_000
M_MMAP_THRESHOLD = -3  # of malloc.h
FEW_TOKENS = 64  # plain torch holds 4 GB of logits a thousand tokens at a million words


@dataclass(frozen=True)
class Settings(Sizes):
    """What is measured."""

    quick: bool = option(
        False, "measure only the output layers, decoding and whole steps, in fewer rounds; with --decoding, V alone"
    )
    steps_only: bool = option(False, "measure only whole training steps")
    pmi_steps: bool = option(
        False, "measure only whole training steps of pmi with folds, trained rows and short rows, beside tied"
    )
    lstm: bool = option(
        False, "measure only an LSTM layer by itself and whole training steps, with torch.lstm and with that of fixlm"
    )
    decoding: bool = option(
        False,
        f"measure only the {cases.TOP_K} most likely words of one token after another, and a text that is generated, "
        f"also with {MANY_WORDS:,} words",
    )
    json: str | None = option(None, "JSON file to write the figures to")
    plot: str | None = option(None, "PNG file for a plot of how times grow with V and N")
    rounds: Count | None = option(None, "number of rounds. Each measures everything once (none: 7, with --quick 3)")
    threads: Count = option(2, "number of torch's threads")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(asked := [flag_name(name) for name in PARTS if getattr(self, name)]) > 1:
            raise InputError(
                "benchmark.py", "it measures one part at a time", found=", ".join(asked), fix=f"keep {asked[0]} alone"
            )


def command(arguments: Sequence[str]) -> None:
    """Parses, measures, prints and writes."""
    settings = read_command_line(arguments, Settings, __doc__)
    require_places(json=settings.json, plot=settings.plot)

    torch.set_num_threads(settings.threads)
    torch.manual_seed(1)
    report = measure(settings)
    print_report(report)
    if settings.json is not None:
        write_json(Path(settings.json), report)
    if settings.plot is not None and "growth" in report:
        plot_growth(report["growth"], Path(settings.plot))
    elif settings.plot is not None:
        print(f"No {settings.plot}: only the whole benchmark measures how times grow.", file=sys.stderr)


def measure(settings: Settings) -> dict[str, Any]:
    """All figures, as they stand in the JSON."""
    rounds = settings.rounds or (3 if settings.quick else 7)
    setting = asdict(settings) | {"rounds": rounds, "processor": processor()}
    setting |= {"bfloat16_products": multiplies_bfloat16(), "versions": versions()}
    # What is asked for, not how it is measured.
    for name in ("quick", *PARTS, "json", "plot"):
        del setting[name]
    report: dict[str, Any] = {"setting": setting, "microseconds_per_token": {}, "ratios": {}}
    if settings.pmi_steps:
        times, ratios = in_turns(cases.pmi_step_calls(settings), rounds)
        return report | {"microseconds_per_token": {"pmi_step": times}, "ratios": ratios}
    if settings.lstm:
        return report | benchmark_lstm.measure(settings, rounds, in_turns)
    if settings.decoding:
        return report | {"decoding": measure_decoding(settings, rounds)}
    for name, calls in COMPARED.items():
        if name == "step" or not (settings.steps_only or (settings.quick and name == "nll")):
            report["microseconds_per_token"][name], ratios = in_turns(calls(settings), rounds)
            report["ratios"] |= {f"{key}_{name}": ratio for key, ratio in ratios.items()}
    if not (settings.quick or settings.steps_only):
        report["extra_memory_mb"] = measure_memory(settings, cases.trained())
        report["decoding"] = measure_decoding(settings, rounds)
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
        for factor in (1,) if name.startswith(PLAIN) else (1, 4):
            sized = replace(settings, batch_size=settings.batch_size * factor)
            found[name][f"{sized.tokens} tokens"] = in_own_process(extra_memory, name, sized)
    return found


def in_own_process(measure: Callable[..., float | None], *arguments: object) -> float | None:
    """What it returns in a process whose memory nothing else has grown."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        return processes.submit(measure, *arguments).result()


def extra_memory(name: str, settings: Settings) -> float | None:
    """Peak of the resident memory during a loss and its gradients, less inputs, parameters and gradients: in MB.

    None where the system does not tell.
    """
    torch.set_num_threads(settings.threads)
    layer = build_layer(name, settings)
    hidden, targets = cases.random_tokens(settings, settings.tokens)
    cases.loss_and_gradients(layer, hidden[:16].detach().requires_grad_(), targets[:16])  # compiles, starts threads
    before = start_of_peak()
    if before is None:
        return None
    layer.loss(hidden, targets).backward()
    gradients = [parameter.grad for parameter in (hidden, *layer.parameters())]
    kept = sum(gradient.numel() * gradient.element_size() for gradient in gradients)
    return round((resident("VmHWM") - before - kept) / 2**20, 1)


def start_of_peak() -> int | None:
    """Lets the peak of the resident memory start anew; the bytes it starts at, None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return resident("VmRSS")


def resident(field: str) -> int:
    """Bytes, from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure_decoding(settings: Settings, rounds: int) -> list[dict[str, Any]]:
    """(h), (i): the most likely words, and a text, at V words and, with more time, at a million."""
    rows = []
    for size in sorted({settings.vocabulary_size, settings.vocabulary_size if settings.quick else MANY_WORDS}):
        # Families sorted by kind, as a run has them: the words of a block do not stand in order.
        members = max(settings.walsh_family_size or 1, -(-size // settings.walsh_families))
        sizes = replace(settings, vocabulary_size=size, walsh_family_size=members)
        times, ratios = in_turns(cases.top_k_calls(sizes), rounds)
        memory = {name: in_own_process(decoding_memory, name, sizes) for name in cases.DECODING}
        row = {"V": size, "microseconds_per_token": times, "ratios": ratios, "extra_memory_mb": memory}
        times, ratios = in_turns(cases.generation_calls(sizes), rounds)
        rows.append(row | {"generation": {"microseconds_per_token": times, "ratios": ratios}})
    return rows


def decoding_memory(name: str, settings: Settings) -> float | None:
    """Peak of the resident memory during the first token that is decoded, less what was there before: in MB."""
    torch.set_num_threads(settings.threads)
    with contextlib.suppress(AttributeError, OSError):  # another C library than that of GNU
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)  # what is freed goes back, and is not taken again unseen
    layer, hidden = build_layer(name, settings), torch.randn(1, settings.hidden_size)
    with torch.no_grad():
        # A smaller layer compiles and starts threads, since the first token of the large one is to be measured.
        small = replace(settings, vocabulary_size=settings.hidden_size, walsh_family_size=settings.hidden_size)
        build_layer(name, small).top_k(hidden, cases.TOP_K)
        before = start_of_peak()
        layer.top_k(hidden, cases.TOP_K)
    return None if before is None else round((resident("VmHWM") - before) / 2**20, 1)


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
