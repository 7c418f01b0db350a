"""How the benchmark's figures are shown: tables on stdout, and a plot of the growth with V and N."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_cases import DECODED, PLAIN


def print_report(report: Mapping[str, Any]) -> None:
    """Tables on stdout."""
    from rich.table import Table

    from fixlm.console import rich_console

    screen = rich_console(highlight=False, markup=False)
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
