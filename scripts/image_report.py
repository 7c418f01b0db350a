"""What the experiments with images show: a table of heads, and the curves of the paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def table(report: Mapping[str, Any]) -> str:
    """A row a head: means over the seeds ± their standard deviation, after the last epoch, in per cent."""
    lines = ["| head | trained parameters | training error, % | validation error, % | validation accuracy, % |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for head, runs in by_head(report).items():
        wrong = {kind: 100 * last(runs, kind) for kind in ("train_error", "valid_error")}
        cells = map(plus_minus, (wrong["train_error"], wrong["valid_error"], 100 - wrong["valid_error"]))
        lines.append(f"| `{head}` | {runs[0]['trained_parameters']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_head(report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The runs of each head."""
    heads: dict[str, list[dict[str, Any]]] = {}
    for run in report["runs"]:
        heads.setdefault(run["head"], []).append(run)
    return heads


def last(runs: list[dict[str, Any]], kind: str) -> np.ndarray:
    """(runs,) the last value of a curve."""
    return np.array([run[kind][-1] for run in runs])


def plus_minus(values: np.ndarray) -> str:
    """Mean ± standard deviation, the latter with n − 1 and only where there are two values."""
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Training and validation error of each head against epochs: thin lines for the seeds, a thick one for the mean."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    from fixlm.comparison.line_labels import label_lines
    from fixlm.comparison.plots import COLOURS, HEIGHT, WIDTH, save

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        titles = {"train_error": "training, pictures moved at random", "valid_error": "validation"}
        for panel, (kind, title) in zip(panels, titles.items(), strict=True):
            for colour, (head, runs) in zip(COLOURS, by_head(report).items(), strict=False):
                curves = 100 * np.array([run[kind] for run in runs])  # (runs, epochs)
                epochs = np.arange(1, curves.shape[1] + 1)
                panel.semilogy(epochs, curves.T, color=colour, linewidth=0.5, alpha=0.25)
                panel.semilogy(epochs, curves.mean(0), color=colour, linewidth=1.8, label=head)
            panel.set_title(title, fontsize="medium")
            panel.set_xlabel("epoch")
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("error, %")
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        label_lines(figure)
        return figure

    save(path, draw)
