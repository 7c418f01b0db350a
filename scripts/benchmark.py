"""Times output layers, and training steps with them, beside a plain torch program, in one run.

python scripts/benchmark.py --json benchmark.json --plot benchmark.png

Every ratio is the plain program's time over ours, taken in turns: the median over rounds of the ratio within a round,
so that a machine that is slower for a while slows both. Data are random; the time does not depend on them.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fixlm.cli import run
from fixlm.errors import InputError
from fixlm.options import Parser, add_options, option, read_options

PLAIN = "plain torch, learned"
ADAPTIVE_CUTOFFS = (2000, 10000)
SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
DIMS = (64, 128, 256, 512, 1024, 2048)
DECODED = 20  # tokens in a row
SLOW_TOKENS = 140  # of bfloat16 products where the processor has none
FEW_TOKENS = 64  # plain torch holds 4 GB of logits a thousand tokens at a million words


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    quick: bool = option(False, "the output layers, decoding and whole steps only, in fewer rounds")
    json: str | None = option(None, "file for the figures")
    plot: str | None = option(None, "PNG file for the growth with V and N")
    vocabulary_size: int = option(33_278, "V", minimum=2)
    hidden_size: int = option(512, "H, and N of the fixed matrices; a power of two", minimum=16)
    walsh_families: int = option(2048, "M of walsh", minimum=16)
    batch_size: int = option(40, "B", minimum=1)
    bptt: int = option(70, "T; the layers are measured on B·T tokens", minimum=1)
    rounds: int | None = option(None, "turns of everything that is compared (none: 7, quick 3)", minimum=1)
    threads: int = option(2, "threads of torch", minimum=1)
    memory_of: str | None = option(None, "only measure the extra memory of this layer, in this process")


def command(arguments: Sequence[str]) -> None:
    """Parses, measures, prints and writes."""
    parser = Parser(prog="benchmark.py", description=__doc__)
    add_options(parser, Settings)
    settings = read_options(parser.parse_args(list(arguments)), Settings)
    for flag, path in (("--json", settings.json), ("--plot", settings.plot)):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise InputError(flag, "there is no such directory", found=Path(path).parent)
    if settings.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot", "matplotlib is not installed", fix="pip install matplotlib")

    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(1)
    if settings.memory_of is not None:
        print(extra_memory(settings.memory_of, settings))
        return
    report = measure(settings)
    print_report(report)
    if settings.json is not None:
        Path(settings.json).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if settings.plot is not None and "growth" in report:
        plot_growth(report["growth"], Path(settings.plot))


def measure(settings: Settings) -> dict[str, Any]:
    """All figures, as they stand in the JSON."""
    rounds = settings.rounds or (3 if settings.quick else 7)
    report: dict[str, Any] = {"setting": describe(settings, rounds), "ratios": {}}

    def compare(name: str, calls: Mapping[str, Call]) -> None:
        section = report.setdefault("microseconds_per_token", {})
        section[name], ratios = in_turns(calls, rounds)
        report["ratios"] |= {f"{key}_{name}": ratio for key, ratio in ratios.items()}

    compare("loss", loss_calls(settings))
    if not settings.quick:
        compare("nll", nll_calls(settings))
    compare("decode", decode_calls(settings))
    compare("step", step_calls(settings))
    if not settings.quick:
        report["extra_memory_mb"] = measure_memory(settings, [PLAIN, *layers(settings)])
        report["growth"] = measure_growth(max(3, rounds // 2))
    return report


def describe(settings: Settings, rounds: int) -> dict[str, Any]:
    """Sizes, versions and processor."""
    from fixlm.precision import multiplies_bfloat16
    from fixlm.run import versions

    sizes = asdict(settings) | {"rounds": rounds}
    for name in ("quick", "json", "plot", "memory_of"):
        del sizes[name]
    return {
        **sizes,
        "processor": processor(),
        "bfloat16_products": multiplies_bfloat16(),
        "versions": versions(),
    }


def processor() -> str:
    """Its name and widest vectors."""
    import torch

    found = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                found = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{found}, {torch.backends.cpu.get_cpu_capability()}"


@dataclass(frozen=True)
class Call:
    """Something to time, and how many tokens it handles."""

    work: Callable[[], object]
    tokens: int

    def seconds_per_token(self) -> float:
        began = time.perf_counter()
        self.work()
        return (time.perf_counter() - began) / self.tokens


def in_turns(calls: Mapping[str, Call], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median microseconds a token of each call, and median ratio of the first call's to each other's."""
    for call in calls.values():
        call.work()  # compiles, allocates, fills caches
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            seconds[name].append(call.seconds_per_token())
        print(f"\r{len(calls)} in turns: {turn + 1}/{rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    plain, *others = calls
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[plain], seconds[name], strict=True))
        for name in others
    }
    ratios = {name: float(f"{ratio:.3g}") for name, ratio in ratios.items()}  # a small one is not 0
    return {name: round(statistics.median(s) * 1e6, 2) for name, s in seconds.items()}, ratios


def layers(settings: Settings) -> dict[str, Any]:
    """The output layers by the names of the report."""
    import torch

    from fixlm import output

    size, hidden = settings.vocabulary_size, settings.hidden_size
    vectors = torch.nn.functional.normalize(torch.randn(size, hidden), dim=1)
    return {
        "learned_fused": output.build("learned", hidden, size),
        "dense_fixed_float32": output.build("pretrained", hidden, size, vectors=vectors),
        "dense_fixed_bfloat16": output.build(
            "pretrained", hidden, size, vectors=vectors, precision=torch.bfloat16
        ),
        "hadamard": output.build("hadamard", hidden, size),
        "walsh": output.build("walsh", hidden, size, walsh_families=settings.walsh_families),
    }


def random_tokens(settings: Settings, tokens: int) -> tuple[Any, Any]:
    """Hidden states (n, H) that want a gradient, and targets (n,)."""
    import torch

    hidden = torch.randn(tokens, settings.hidden_size, requires_grad=True)
    return hidden, torch.randint(0, settings.vocabulary_size, (tokens,))


def plain_layer(settings: Settings) -> Any:
    """`nn.Linear` to the vocabulary."""
    import torch

    return torch.nn.Linear(settings.hidden_size, settings.vocabulary_size)


def backward(loss: Any, module: Any, hidden: Any) -> None:
    """Gradients, which are then dropped."""
    loss.backward()
    hidden.grad = None
    module.zero_grad(set_to_none=True)


def loss_calls(settings: Settings) -> dict[str, Call]:
    """(a): loss and gradients of B·T tokens."""
    import torch
    import torch.nn.functional as F

    from fixlm.precision import multiplies_bfloat16

    tokens = settings.batch_size * settings.bptt
    hidden, targets = random_tokens(settings, tokens)
    linear = plain_layer(settings)
    size = settings.vocabulary_size
    cutoffs = [cutoff for cutoff in ADAPTIVE_CUTOFFS if cutoff < size] or [size // 2]
    adaptive = torch.nn.AdaptiveLogSoftmaxWithLoss(settings.hidden_size, settings.vocabulary_size, cutoffs)
    calls = {
        PLAIN: Call(lambda: backward(F.cross_entropy(linear(hidden), targets), linear, hidden), tokens),
        "adaptive_softmax": Call(lambda: backward(adaptive(hidden, targets).loss, adaptive, hidden), tokens),
    }
    for name, layer in layers(settings).items():
        slow = name == "dense_fixed_bfloat16" and not multiplies_bfloat16()
        calls[name] = loss_call(layer, hidden, targets, SLOW_TOKENS if slow else tokens)
    return calls


def loss_call(layer: Any, hidden: Any, targets: Any, tokens: int) -> Call:
    """Loss and gradients of the first tokens."""
    inputs = hidden[:tokens].detach().requires_grad_()
    return Call(lambda: backward(layer.loss(inputs, targets[:tokens]), layer, inputs), tokens)


def nll_calls(settings: Settings) -> dict[str, Call]:
    """(b): scoring without gradient."""
    import torch
    import torch.nn.functional as F

    tokens = settings.batch_size * settings.bptt
    hidden, targets = random_tokens(settings, tokens)
    linear = plain_layer(settings)
    plain = torch.no_grad()(lambda: F.cross_entropy(linear(hidden), targets, reduction="none"))
    calls = {PLAIN: Call(plain, tokens)}
    for name, layer in layers(settings).items():
        if name != "dense_fixed_bfloat16":  # always scored in float32
            calls[name] = Call(functools.partial(layer.nll, hidden, targets), tokens)
    return calls


def decode_calls(settings: Settings) -> dict[str, Call]:
    """(c): the logits of one token after another."""
    import torch

    hidden, _ = random_tokens(settings, 1)

    def repeated(logits: Callable[[Any], object]) -> Call:
        def work() -> None:
            with torch.no_grad():
                for _ in range(DECODED):
                    logits(hidden)

        return Call(work, DECODED)

    built = layers(settings)
    calls = {PLAIN: repeated(plain_layer(settings))}
    return calls | {
        name: repeated(built[name].logits) for name in ("dense_fixed_float32", "hadamard", "walsh")
    }


def step_calls(settings: Settings) -> dict[str, Call]:
    """(f): whole training steps of the 2-layer model."""
    tokens = settings.batch_size * settings.bptt
    ours = {"tied": "tied", "pmi": "pretrained", "hadamard": "hadamard", "walsh": "walsh"}
    calls = {PLAIN: Call(plain_step(settings), tokens)}
    return calls | {name: Call(our_step(layer, settings), tokens) for name, layer in ours.items()}


def plain_step(settings: Settings) -> Callable[[], object]:
    """One step of a language model as PyTorch's word_language_model example trains it."""
    import torch
    from torch import nn

    hidden_size, size = settings.hidden_size, settings.vocabulary_size
    embedding, dropout = nn.Embedding(size, hidden_size), nn.Dropout(0.2)
    lstm = nn.LSTM(hidden_size, hidden_size, 2, dropout=0.2)
    decoder = nn.Linear(hidden_size, size)
    parameters = [p for module in (embedding, lstm, decoder) for p in module.parameters()]
    ids = torch.randint(0, size, (settings.bptt + 1, settings.batch_size))
    state = [torch.zeros(2, settings.batch_size, hidden_size)] * 2

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        hidden, after = lstm(dropout(embedding(ids[:-1])), tuple(state))
        logits = decoder(dropout(hidden)).view(-1, size)
        loss = nn.functional.nll_loss(logits.log_softmax(1), ids[1:].view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.25)
        with torch.no_grad():
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.add_(parameter.grad, alpha=-0.1)
        state[:] = [part.detach() for part in after]

    return step


def our_step(name: str, settings: Settings) -> Callable[[], object]:
    """One step of `fixlm.train` with that output layer."""
    import torch

    from fixlm import output
    from fixlm.config import OptimizationConfig
    from fixlm.model import LanguageModel, input_embedding
    from fixlm.optimization import make_optimizer, take_gradients
    from fixlm.precision import multiplies_bfloat16

    hidden_size, size = settings.hidden_size, settings.vocabulary_size
    precision = torch.bfloat16 if multiplies_bfloat16() else None
    config = OptimizationConfig()
    embedding = input_embedding(size, hidden_size)
    options: dict[str, Any] = {"walsh_families": settings.walsh_families} if name == "walsh" else {}
    if name == "pretrained":
        options["vectors"] = torch.nn.functional.normalize(torch.randn(size, hidden_size), dim=1)
    layer = output.build(
        name,
        hidden_size,
        size,
        input_embedding=embedding,
        precision=precision,
        **options,
    )
    model = LanguageModel(
        embedding,
        hidden_size,
        layer,
        dropout_input=0.2,
        dropout_between=0.2,
        dropout_output=0.2,
        precision=precision,
    ).train()
    optimizer = make_optimizer(model, config)
    ids = torch.randint(0, size, (settings.bptt + 1, settings.batch_size))
    state = [model.start_state(settings.batch_size)]

    def step() -> None:
        _, _, state[0] = take_gradients(model, optimizer, ids, state[0], config.clip)
        optimizer.step()

    return step


def measure_memory(settings: Settings, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """(d): extra memory of a loss with its gradients, in MB, at B·T and at four times as many tokens."""
    found: dict[str, dict[str, float | None]] = {}
    for name in names:
        found[name] = {}
        for factor in (1, 4):
            if name == PLAIN and factor > 1:
                continue
            flags = [f"--batch-size={settings.batch_size * factor}", f"--bptt={settings.bptt}"]
            flags += [
                f"--vocabulary-size={settings.vocabulary_size}",
                f"--hidden-size={settings.hidden_size}",
            ]
            flags += [f"--threads={settings.threads}", f"--memory-of={name}"]
            done = subprocess.run(
                [sys.executable, __file__, *flags], capture_output=True, text=True, check=True
            )
            tokens = settings.batch_size * settings.bptt * factor
            found[name][f"{tokens} tokens"] = None if done.stdout.strip() == "None" else float(done.stdout)
    return found


def extra_memory(name: str, settings: Settings) -> float | None:
    """Peak of the resident memory during a loss and its gradients, less inputs, parameters and gradients: in MB.

    None where the system does not tell.
    """
    import torch.nn.functional as F

    layer = plain_layer(settings) if name == PLAIN else layers(settings)[name]
    hidden, targets = random_tokens(settings, settings.batch_size * settings.bptt)

    def loss(hidden: Any, targets: Any) -> Any:
        return F.cross_entropy(layer(hidden), targets) if name == PLAIN else layer.loss(hidden, targets)

    small = hidden[:16].detach().requires_grad_()
    backward(loss(small, targets[:16]), layer, small)  # compiles, starts threads
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return None
    before = resident("VmRSS")
    loss(hidden, targets).backward()
    gradients = [parameter.grad for parameter in (hidden, *layer.parameters())]
    kept = sum(gradient.numel() * gradient.element_size() for gradient in gradients)
    return round((resident("VmHWM") - before - kept) / 2**20, 1)


def resident(field: str) -> int:
    """Bytes, from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def measure_growth(rounds: int) -> list[dict[str, Any]]:
    """(e): microseconds a token of loss and gradients as V grows at N = 512, and as N grows at V = 33,278."""
    rows = []
    cases = [("V", size, 512) for size in SIZES] + [("N", 33_278, dim) for dim in DIMS]
    for axis, size, dim in cases:
        # Few tokens, since plain torch holds all logits; hadamard gets as many as a round of its threads needs.
        settings = Settings(vocabulary_size=size, hidden_size=dim, batch_size=FEW_TOKENS, bptt=1)
        times, _ = in_turns(growth_calls(settings), rounds)
        rows.append({"axis": axis, "V": size, "N": dim, "tokens": FEW_TOKENS, **times})
    return rows


def growth_calls(settings: Settings) -> dict[str, Call]:
    """Loss and gradients of a few tokens."""
    import torch
    import torch.nn.functional as F

    from fixlm import output

    size, hidden_size = settings.vocabulary_size, settings.hidden_size
    hidden, targets = random_tokens(settings, FEW_TOKENS)
    linear = plain_layer(settings)
    vectors = torch.nn.functional.normalize(torch.randn(size, hidden_size), dim=1)
    built = {
        "dense_fixed_float32": output.build("pretrained", hidden_size, size, vectors=vectors),
        "hadamard": output.build("hadamard", hidden_size, size),
        "walsh": output.build("walsh", hidden_size, size, walsh_families=settings.walsh_families),
    }
    plain = Call(lambda: backward(F.cross_entropy(linear(hidden), targets), linear, hidden), FEW_TOKENS)
    ours = {name: loss_call(layer, hidden, targets, FEW_TOKENS) for name, layer in built.items()}
    return {PLAIN: plain} | ours


def plot_growth(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Two log–log plots of microseconds a token: against V and against N."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    labels = {"V": "vocabulary size V (N = 512)", "N": "dimension N (V = 33,278)"}
    for axis, panel in zip(("V", "N"), axes, strict=True):
        points = [row for row in rows if row["axis"] == axis]
        for name in (PLAIN, "dense_fixed_float32", "walsh", "hadamard"):
            panel.loglog([row[axis] for row in points], [row[name] for row in points], "o-", label=name)
        panel.set_xlabel(labels[axis])
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("µs a token, loss and gradients")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def print_report(report: Mapping[str, Any]) -> None:
    """Tables on stdout."""
    from rich.console import Console
    from rich.table import Table

    screen = Console(highlight=False, markup=False)
    setting = report["setting"]
    screen.print(
        f"{setting['processor']}, {setting['threads']} threads, V = {setting['vocabulary_size']:,}, "
        f"N = H = {setting['hidden_size']}, {setting['batch_size'] * setting['bptt']:,} tokens"
    )
    titles = {
        "loss": "loss and gradients",
        "nll": "scoring",
        "decode": f"logits of one token, {DECODED} in a row",
        "step": "whole training step",
    }
    for name, times in report["microseconds_per_token"].items():
        table = Table("", "µs a token", "times faster", title=titles[name], title_justify="left")
        for call, microseconds in times.items():
            ratio = report["ratios"].get(f"{call}_{name}")
            table.add_row(call, f"{microseconds:,.1f}", "" if ratio is None else f"{ratio:.1f}")
        screen.print(table)
    if "extra_memory_mb" in report:
        table = Table("", "tokens", "MB", title="peak extra memory", title_justify="left")
        for name, measured in report["extra_memory_mb"].items():
            for tokens, megabytes in measured.items():
                table.add_row(name, tokens, str(megabytes))
        screen.print(table)
    if "growth" in report:
        names = [name for name in report["growth"][0] if name not in ("axis", "V", "N", "tokens")]
        table = Table("V", "N", *names, title="growth, µs a token", title_justify="left")
        for row in report["growth"]:
            table.add_row(f"{row['V']:,}", f"{row['N']:,}", *(f"{row[name]:,.1f}" for name in names))
        screen.print(table)


if __name__ == "__main__":
    sys.exit(run(command))
