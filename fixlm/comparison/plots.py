"""The plots of a comparison as PNG: perplexity against tokens and seconds, α, both losses, word frequency."""

from __future__ import annotations

import functools
import importlib.util
import io
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fixlm.comparison import curves
from fixlm.comparison.line_labels import GREY, OTHER, WRAP, label_lines
from fixlm.comparison.rows import Row, mean_and_deviation
from fixlm.comparison.stored_run import StoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Of Okabe and Ito (2008), which colour-blind readers tell apart, and of Tol (2021) in place of their faint yellow."""
MOST_NAMED = len(COLOURS)
"""Rows of a plot that have a colour and a name, the best by validation; the others are grey."""
WIDTH, HEIGHT, DPI = 8.0, 4.4, 120
"""Inches and dots an inch: as wide as a README shows a picture."""
PALETTE = 128
"""Colours of a picture."""
FEW = 30
"""Points of a line up to which each has a marker."""

CurveOf = Callable[[StoredRun], Mapping[int, float]]
Scale = Callable[[StoredRun, Sequence[int]], Sequence[float]]


def draw(rows: Sequence[Row], directory: Path) -> list[str]:
    """Writes every plot that the finished runs have numbers for, and removes older ones that they have not.

    Returns:
        Notes for the table: what is left out and why, or how to get plots where matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return ["No plots, since matplotlib is not installed: pip install matplotlib, then --table-only."]
    rows = [row for row in rows if row.done]
    texts = Counter(row.corpus for row in rows).most_common(1)
    shown = [row for row in rows if row.corpus == texts[0][0]]
    notes = []
    if len(shown) < len(rows):
        left_out = ", ".join(row.name for row in rows if row not in shown)
        notes.append(f"The plots show rows of one text only, and so not {left_out}.")
    for name, plot in PLOTS.items():
        save(directory / name, functools.partial(plot, shown))
    without = [run.path.name for row in shown for run in row.done if not bands(run)]
    if without:
        what = "their results have no perplexity by word frequency"
        notes.append(f"Not in frequency.png, since {what}: {', '.join(without)}.")
    return notes


def save(path: Path, plot: Callable[[], Figure | None]) -> None:
    """Writes a plot as PNG, in matplotlib's own style; removes an older one where there is nothing to show."""
    with _plain_style():
        figure = plot()
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            write_png(figure, path)


def write_png(figure: Figure, path: Path) -> None:
    """Writes a figure in a few colours, which lines on white do not show, as a quarter of the bytes."""
    from PIL import Image

    with io.BytesIO() as whole:
        figure.savefig(whole, format="png", dpi=DPI)
        picture = Image.open(whole).convert("RGB")
    few = picture.quantize(PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, "png", optimize=True)  # no version and no time in it: the same numbers give the same file


def valid_by_tokens(rows: Sequence[Row]) -> Figure | None:
    """Validation perplexity against tokens trained on."""
    return valid_against(rows, curves.tokens, "tokens trained on")


def valid_by_seconds(rows: Sequence[Row]) -> Figure | None:
    """Validation perplexity against the seconds of training steps."""
    return valid_against(rows, curves.seconds, "seconds of training steps")


def valid_against(rows: Sequence[Row], scale: Scale, across: str) -> Figure | None:
    """Validation perplexity against what the scale makes of a run's steps.

    Args:
        across: what stands below the axis of that scale.
    """
    return _finished(_panels(rows, [(curves.validation_perplexity, "")], scale, across, "validation perplexity"))


def alpha_by_steps(rows: Sequence[Row]) -> Figure | None:
    """α against steps on a logarithmic axis: growth like log t, as the paper has it, is a straight line."""
    figure = _panels(rows, [(curves.alpha, "")], lambda run, steps: steps, "steps", "α")
    if figure is not None:
        figure.axes[0].autoscale(axis="x")
        _logarithmic(figure.axes[0], "x")
    return _finished(figure)


def losses(rows: Sequence[Row]) -> Figure | None:
    """Training beside validation loss: the paper has fixed layers train to a higher loss and validate the same.

    The first tenth of a curve may lie outside.
    """
    both = [(curves.training_loss, "training, with dropout"), (curves.validation_loss, "validation")]
    figure = _panels(rows, both, curves.tokens, "tokens trained on", "loss, nats a token")
    if figure is not None:  # the fall of the first steps would leave no room for what differs at the end
        late = [y for panel in figure.axes for line in panel.lines for y in _late(line)]
        margin = 0.05 * (max(late) - min(late)) or 0.1
        figure.axes[0].set_ylim(min(late) - margin, max(late) + margin)
    return _finished(figure)


def by_frequency(rows: Sequence[Row]) -> Figure | None:
    """Test perplexity of the words of each band of frequency; whiskers are the standard deviation over seeds.

    The bands differ by factors of thousands and the rows by parts of one: of several rows, each is divided by the
    first, which is the best.
    """
    shown = [row for row in rows if any(map(bands, row.done))]
    order = sorted({key for row in shown for run in row.done for key in bands(run)})
    if not order:
        return None
    scores = [
        {key: mean_and_deviation([bands(run)[key][1] for run in row.done if key in bands(run)]) for key in order}
        for row in shown
    ]
    best = {key: scores[0][key][0] or 1.0 if len(shown) > 1 else 1.0 for key in order}
    figure, (panel,) = _figure(1, shown)
    for found, look in zip(scores, _looks(rows, shown), strict=True):
        points = [
            (at, mean / best[key], (deviation or 0.0) / best[key])
            for at, key in enumerate(order)
            for mean, deviation in [found[key]]
            if mean is not None
        ]
        x, y, whiskers = zip(*points, strict=True)
        panel.plot(x, y, marker="o", markersize=4, **look)
        if any(whiskers):
            panel.errorbar(x, y, yerr=whiskers, fmt="none", ecolor=look["color"], capsize=2, linewidth=0.8)
    names = {key: band[key][0] for row in shown for run in row.done for band in [bands(run)] for key in band}
    panel.set_xticks(range(len(order)), [names[key] for key in order])
    panel.set_xlabel("occurrences of the word in the train split")
    ratio = textwrap.fill(f"test perplexity of these words, divided by that of {shown[0].name}", 60)
    panel.set_ylabel(ratio if len(shown) > 1 else "test perplexity of these words")
    _logarithmic(panel, "y")
    return _finished(figure)


PLOTS: dict[str, Callable[[Sequence[Row]], Figure | None]] = {
    "valid-tokens.png": valid_by_tokens,
    "valid-seconds.png": valid_by_seconds,
    "alpha.png": alpha_by_steps,
    "losses.png": losses,
    "frequency.png": by_frequency,
}
"""Each plot by its file; None where no run has numbers for it."""


def bands(run: StoredRun) -> dict[int, tuple[str, float]]:
    """Name and test perplexity of each band of frequency, by the band's lowest count; empty for older results."""
    from fixlm.evaluation.perplexity import Band

    given = (run.result or {}).get("test_by_frequency", ())
    return {band.lowest: (band.name, band.perplexity) for band in (Band(**values) for values in given)}


def _panels(
    rows: Sequence[Row], kinds: Sequence[tuple[CurveOf, str]], scale: Scale, across: str, up: str
) -> Figure | None:
    """A panel for each kind of curve: thin lines for the runs, a thick one for their mean."""
    shown = [row for row in rows if any(curve(run) for curve, _ in kinds for run in row.done)]
    if not shown:
        return None
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure, panels = _figure(len(kinds), shown)
    looks = _looks(rows, shown)
    for panel, (curve, title) in zip(panels, kinds, strict=True):
        for row, look in zip(shown, looks, strict=True):
            _draw_row(panel, row, curve, scale, look)
        panel.set_title(title, fontsize="medium")
        panel.set_xlabel(across)
        if "perplexity" in up:
            _logarithmic(panel, "y")
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        if panel.get_xlim()[1] > 1000:
            panel.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    panels[0].set_ylabel(up)
    return figure


def _draw_row(panel: Axes, row: Row, curve: CurveOf, scale: Scale, look: Mapping[str, Any]) -> None:
    runs = [run for run in row.done if curve(run)]
    if not runs:
        return
    each = [(scale(run, [*points]), [*points.values()]) for run in runs for points in [curve(run)]]
    if len(runs) > 1 and look["color"] != GREY:
        for line in each:
            panel.plot(*line, color=look["color"], linewidth=0.6, alpha=0.5)
    across, up = curves.mean(each)
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(up) <= FEW and look["color"] != GREY else {}
    panel.plot(across, up, **look, **marker)


def _figure(panels: int, rows: Sequence[Row]) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    lines = sum(-(-len(row.name) // WRAP) for row in rows[:MOST_NAMED])  # of labels, one above the other
    figure = Figure(figsize=(WIDTH, max(HEIGHT, 1.2 + 0.2 * lines)), layout="constrained")
    axes = figure.subplots(1, panels, sharex=True, sharey=True, squeeze=False)[0]
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, [*axes]


def _finished(figure: Figure | None) -> Figure | None:
    if figure is not None:
        label_lines(figure)
    return figure


def _looks(rows: Sequence[Row], shown: Sequence[Row]) -> list[dict[str, Any]]:
    """Colour and label of each row that a plot shows: the best few have one, the others are thin and grey.

    A row has the same colour in all plots of a comparison, as far as the colours suffice.
    """
    named = [*shown[:MOST_NAMED]]
    among = [*rows] if len(rows) <= MOST_NAMED else named
    return [
        {"color": COLOURS[among.index(row)], "label": row.name, "linewidth": 1.8, "zorder": 3}
        if row in named
        else {"color": GREY, "label": f"_{row.name}", "linewidth": 0.9, "zorder": 1, "gid": OTHER}
        for row in shown
    ]


def _late(line: Line2D) -> list[float]:
    """Values of a line without its first tenth."""
    across, up = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    return [float(y) for y in up[across >= across.max(initial=0) / 10]]


def _logarithmic(panel: Axes, name: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers, the more of them the fewer powers of ten it has."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    (panel.set_xscale if name == "x" else panel.set_yscale)("log")
    axis = panel.xaxis if name == "x" else panel.yaxis
    low, high = axis.get_view_interval()
    steps: tuple[float, ...] = (1,)
    if high < 200 * low:
        steps = (1, 2, 5) if high > 8 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


@contextmanager
def _plain_style() -> Iterator[None]:
    """matplotlib's own defaults, whatever the user's are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
