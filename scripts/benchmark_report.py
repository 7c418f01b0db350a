"""How the benchmark's figures are shown: tables on stdout, and a plot of the growth with V and N."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_cases import DECODED, GROWN, TOP_K
from benchmark_layers import PLAIN
from rich.table import Table

from fixlm.console import rich_console

NAMES = {"adaptive_softmax": "plain torch, adaptive softmax", "learned_fused": "learned", "dense_fixed": "dense fixed"}
"""What is shown for a key of the figures, without its type, where the key itself is not readable."""
TYPES = ("float32", "bfloat16")
TITLES = {
    "loss": "loss and gradients",
    "nll": "scoring",
    "decode": f"logits of one token, {DECODED} in a row",
    "step": "whole training step",
    "pmi_step": "whole training step, beside tied",
    "lstm_step": "whole training step, with the LSTM of fixlm where the name says no other",
}


def shown(key: str, otherwise: str = "float32") -> str:
    """The words for a key of the figures, new or old.

    Args:
        otherwise: the type of the products where the key names none.
    """
    for kind in TYPES:
        if key.endswith(f"_{kind}"):
            key, otherwise = key.removesuffix(f"_{kind}"), kind
    return f"{NAMES.get(key, key)}, {otherwise}"


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
        ours = "bfloat16" if "step" in name and setting["bfloat16_products"] else "float32"
        for call, microseconds in times.items():
            ratio = report["ratios"].get(call if name in ("pmi_step", "lstm_step") else f"{call}_{name}")
            table.add_row(
                shown(call, "float32" if call == PLAIN else ours),
                f"{microseconds:,.1f}",
                "" if ratio is None else f"{ratio:.1f}",
            )
        screen.print(table)
    if "lstm" in report:
        table = Table(
            "", "torch.lstm", "fixlm", "times faster", title="an LSTM layer, µs a token", title_justify="left"
        )
        for row in report["lstm"]:
            times = row["microseconds_per_token"].values()
            table.add_row(
                f"{row['units']} units, {row['type']}", *(f"{each:.1f}" for each in times), f"{row['ratio']:.2f}"
            )
        screen.print(table)
    if "extra_memory_mb" in report:
        table = Table("", "tokens", "MB", title="peak extra memory", title_justify="left")
        for name, measured in report["extra_memory_mb"].items():
            for tokens, megabytes in measured.items():
                table.add_row(shown(name), tokens, str(megabytes))
        screen.print(table)
    for row in report.get("decoding", ()):
        title = f"the {TOP_K} most likely words of one token, {DECODED} in a row, V = {row['V']:,}"
        table = Table("", "µs a token", "times faster", "extra MB", title=title, title_justify="left")
        for name, microseconds in row["microseconds_per_token"].items():
            ratio, megabytes = row["ratios"].get(name), row["extra_memory_mb"][name]
            table.add_row(shown(name), f"{microseconds:,.0f}", "" if ratio is None else f"{ratio:.1f}", str(megabytes))
        screen.print(table)
        if written := row.get("generation"):
            title = f"a text of {DECODED} words, each among the {TOP_K} most likely ones, V = {row['V']:,}"
            table = Table("", "words a second", "times faster", title=title, title_justify="left")
            for name, microseconds in written["microseconds_per_token"].items():
                ratio = written["ratios"].get(name)
                table.add_row(shown(name), f"{1e6 / microseconds:,.0f}", "" if ratio is None else f"{ratio:.1f}")
            screen.print(table)
    if "growth" in report:
        table = Table("V", "N", *(shown(name) for name in GROWN), title="growth, µs a token", title_justify="left")
        for row in report["growth"]:
            table.add_row(f"{row['V']:,}", f"{row['N']:,}", *(f"{row[name]:,.1f}" for name in GROWN))
        screen.print(table)


def plot_growth(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Two log–log plots of microseconds a token: against V and against N."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    from fixlm.comparison.line_labels import label_lines
    from fixlm.comparison.plots import COLOURS, write_png

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = {"V": "vocabulary size V (N = 512)", "N": "dimension N (V = 33,278)"}
    for axis, panel in zip(("V", "N"), axes, strict=True):
        points = [row for row in rows if row["axis"] == axis]
        for name, colour in zip(GROWN, ("#707070", *COLOURS[1:]), strict=False):
            across = [row[axis] for row in points]
            panel.loglog(across, [row[name] for row in points], "o-", color=colour, label=shown(name))
        panel.set_xlabel(titles[axis])
        panel.set_xticks([row[axis] for row in points][axis == "V" :: 2])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        for scale in (panel.xaxis, panel.yaxis):
            scale.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axes[0].set_ylabel("µs a token, loss and gradients")
    label_lines(figure)
    write_png(figure, path)
