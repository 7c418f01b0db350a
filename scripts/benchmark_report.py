"""How the benchmark's figures are shown: tables on stdout, and a plot of the growth with V and N."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_cases import DECODED, GROWN
from rich.table import Table

from fixlm.console import rich_console

NAMES = {
    "adaptive_softmax": "plain torch, adaptive softmax",
    "learned_fused": "learned",
    "dense_fixed_float32": "fixed matrix, float32",
    "dense_fixed_bfloat16": "fixed matrix, bfloat16",
}
"""What is shown for a key of the figures, where the key itself is not readable."""
TITLES = {
    "loss": "loss and gradients",
    "nll": "scoring",
    "decode": f"logits of one token, {DECODED} in a row",
    "step": "whole training step",
    "pmi_step": "whole training step, beside tied",
}


def print_report(report: Mapping[str, Any]) -> None:
    """Tables on stdout."""
    screen = rich_console(highlight=False, markup=False)
    setting = report["setting"]
    screen.print(
        f"{setting['processor']}, {setting['threads']} threads, V = {setting['vocabulary_size']:,}, "
        f"N = H = {setting['hidden_size']}, {setting['batch_size'] * setting['bptt']:,} tokens"
    )
    for name, times in report["microseconds_per_token"].items():
        table = Table("", "µs a token", "times faster", title=TITLES[name], title_justify="left")
        for call, microseconds in times.items():
            ratio = report["ratios"].get(call if name == "pmi_step" else f"{call}_{name}")
            table.add_row(NAMES.get(call, call), f"{microseconds:,.1f}", "" if ratio is None else f"{ratio:.1f}")
        screen.print(table)
    if "extra_memory_mb" in report:
        table = Table("", "tokens", "MB", title="peak extra memory", title_justify="left")
        for name, measured in report["extra_memory_mb"].items():
            for tokens, megabytes in measured.items():
                table.add_row(NAMES.get(name, name), tokens, str(megabytes))
        screen.print(table)
    if "growth" in report:
        table = Table(
            "V", "N", *(NAMES.get(name, name) for name in GROWN), title="growth, µs a token", title_justify="left"
        )
        for row in report["growth"]:
            table.add_row(f"{row['V']:,}", f"{row['N']:,}", *(f"{row[name]:,.1f}" for name in GROWN))
        screen.print(table)


def plot_growth(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Two log–log plots of microseconds a token: against V and against N."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    from fixlm.comparison.line_labels import label_lines
    from fixlm.comparison.plots import COLOURS, DPI

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = {"V": "vocabulary size V (N = 512)", "N": "dimension N (V = 33,278)"}
    for axis, panel in zip(("V", "N"), axes, strict=True):
        points = [row for row in rows if row["axis"] == axis]
        for name, colour in zip(GROWN, ("#707070", *COLOURS[1:]), strict=False):
            across = [row[axis] for row in points]
            panel.loglog(across, [row[name] for row in points], "o-", color=colour, label=NAMES.get(name, name))
        panel.set_xlabel(titles[axis])
        panel.set_xticks([row[axis] for row in points][axis == "V" :: 2])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        for scale in (panel.xaxis, panel.yaxis):
            scale.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axes[0].set_ylabel("µs a token, loss and gradients")
    label_lines(figure)
    # Without the version of matplotlib in it, the same numbers give the same file.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
