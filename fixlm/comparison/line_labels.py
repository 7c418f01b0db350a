"""Names at the ends of lines, in place of a legend: no reader has to match eight colours with eight keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

OTHER = "other"
"""Mark (``gid``) of a line that has no label of its own."""
GREY = "#B0B0B0"
WRAP = 26
"""Characters of a line of a label; longer names take several lines."""
DISTANCE = 12
"""Points from the end of a line to its label."""
GAP = 1.0
"""Pixels between two labels."""
ROUNDS = 500
"""Of pushing labels apart; eight labels need far fewer."""


def label_lines(figure: Figure) -> None:
    """Writes the name of each labelled line beside its end, in its colour, so that no two names overlap.

    A name that stands in several panels is written in the last of them. The lines marked `OTHER` share one label that
    says how many there are. Call this last: labels are placed for the limits that the axes have now.
    """
    labels = [(panel, _annotate(panel, line, text)) for panel, line, text in _named_lines(figure)]
    figure.draw_without_rendering()  # lays the figure out, so that the labels know their sizes
    _spread(figure, labels)


def _named_lines(figure: Figure) -> Iterator[tuple[Axes, Line2D, str]]:
    found: dict[str, tuple[Axes, Line2D, str]] = {}
    for panel in figure.axes:
        lines = [line for line in panel.lines if np.size(line.get_xdata())]
        named = [line for line in lines if not str(line.get_label()).startswith("_")]
        found |= {str(line.get_label()): (panel, line, str(line.get_label())) for line in named}
        others = [line for line in lines if line.get_gid() == OTHER]
        if others:
            what = "1 more row" if len(others) == 1 else f"{len(others)} more rows"
            found[OTHER] = (panel, others[len(others) // 2], what)
    yield from found.values()


def _annotate(panel: Axes, line: Line2D, text: str) -> Annotation:
    from matplotlib.patheffects import withStroke

    end = (float(np.asarray(line.get_xdata())[-1]), float(np.asarray(line.get_ydata())[-1]))
    colour = line.get_color()
    return panel.annotate(
        textwrap.fill(text, WRAP, break_long_words=False),
        end,
        xytext=(DISTANCE, 0),
        textcoords="offset points",
        color="#707070" if line.get_gid() == OTHER else colour,
        fontsize="medium",
        linespacing=1.0,
        va="center",
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.6,
            "shrinkA": 1,
            "shrinkB": 1,
            "relpos": (0, 0.5),
        },
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )


def _spread(figure: Figure, labels: list[tuple[Axes, Annotation]]) -> None:
    """Moves labels up and down until none overlaps another, in the order of their lines and within the axes."""
    from matplotlib.text import Text

    labels.sort(key=lambda each: (each[0].transData.transform(each[1].xy)[1], each[1].get_text()))  # from the bottom
    # The text alone: the extent of an annotation has its pointer in it.
    boxes = [Text.get_window_extent(label) for _, label in labels]
    middles = [(box.y0 + box.y1) / 2 for box in boxes]  # pixels
    pairs = [
        (lower, upper)
        for upper in range(len(labels))
        for lower in range(upper)
        if boxes[upper].x0 < boxes[lower].x1 and boxes[lower].x0 < boxes[upper].x1
    ]
    for _ in range(ROUNDS):
        moved = False
        for lower, upper in pairs:
            apart = (boxes[upper].height + boxes[lower].height) / 2 + GAP
            overlap = apart - (middles[upper] - middles[lower])
            if overlap > 0.01:
                middles[upper] += overlap / 2
                middles[lower] -= overlap / 2
                moved = True
        for place, (panel, _label) in enumerate(labels):
            half = boxes[place].height / 2
            middles[place] = max(panel.bbox.y0 + half, min(panel.bbox.y1 - half, middles[place]))
        if not moved:
            break
    for (_, label), box, middle in zip(labels, boxes, middles, strict=True):
        label.set_position((DISTANCE, (middle - (box.y0 + box.y1) / 2) * 72 / figure.dpi))
