"""The picture of the speedrun: perplexity against minutes of the whole process, from results/speedrun/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fixlm.comparison import curves
from fixlm.comparison.stored_run import StoredRun

RACES = {"cca-256-steps1160": "cca, fixed rows in clusters", "adaptive-256-ngrams": "torch's adaptive softmax"}
"""The name of each race in the picture, by its file: those that were timed beside `PLAIN_FILE`. A race that was not run
is not drawn."""
PLAIN = "PyTorch's example"
REPORTED = 100.3
"""The test perplexity that users of the example report, which those races are for."""
PLAIN_FILE = "plain-5.json"
PLAIN_EPOCH_FILE = "plain-2.json"
"""A whole epoch of the same program on another machine. It gives the perplexity, and `PLAIN_FILE` the times."""


def plot_races(directory: Path, path: Path) -> None:
    """Draws the first seed of each race and the plain program; nothing where one of both is missing.

    A line is validation perplexity, the star at its end test perplexity, mixed with n-grams in a race that has them.
    The plain program was timed for a part of an epoch beside the races. A dotted line goes from what a whole epoch of
    it reaches to the perplexity that its users report, at the times of one and of all its epochs.
    """
    from matplotlib.figure import Figure

    from fixlm.comparison.plots import COLOURS, HEIGHT, WIDTH, save

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
        return found

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for colour, (race, name) in zip(COLOURS, races.items(), strict=False):
            first = read(f"{race}.json")["runs"][0]
            line = validations(stored(first), first["minutes"])
            test = first.get("with_ngrams", first)["test"]
            axes.plot([*line, first["minutes"]], [*line.values(), test], "o-", color=colour, label=name)
            axes.plot(first["minutes"], test, "*", color=colour, markersize=14)
        plain = read(PLAIN_FILE)
        ends = [plain["minutes_an_epoch"], plain["minutes_of_40_epochs"]]
        axes.plot(ends, [read(PLAIN_EPOCH_FILE)["valid"], REPORTED], "o:", color=COLOURS[len(races)], label=PLAIN)
        axes.axhline(REPORTED, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis, ticks in ((axes.xaxis, (2, 5, 10, 20, 50, 100, 200, 500, 1000)), (axes.yaxis, (100, 120, 150, 200))):
            axis.set_ticks(ticks, [str(tick) for tick in ticks])
            axis.minorticks_off()
        axes.set_xlabel("minutes on two cores, from the start of the process")
        axes.set_ylabel("perplexity")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)  # the lines end too near to each other for labels there
        return figure

    races = {race: name for race, name in RACES.items() if (directory / f"{race}.json").is_file()}
    if races and all((directory / name).is_file() for name in (PLAIN_FILE, PLAIN_EPOCH_FILE)):
        save(path, draw)


def stored(found: Mapping[str, Any]) -> StoredRun:
    """The run of one seed, whose summary stands in the file of its race."""
    summary = found["summary"]
    return StoredRun(found["seed"], Path(), summary["config"], summary["result"], None, summary["metrics"].copy)


def validations(run: StoredRun, minutes: float) -> Mapping[float, float]:
    """Validation perplexity by minutes since the start of the process.

    What is neither training nor scoring is counted before both. To score the test split takes as long a token as a
    validation, and n-grams need one pass over the valid split more.

    Args:
        minutes: of the whole process.
    """
    found = curves.validation_perplexity(run)
    result: Mapping[str, Any] = run.result or {}
    each = result["validation_seconds"] / len(found)
    last = each * (result["test"]["targets"] / result["valid"]["targets"] + ("with_ngrams" in result))
    before = 60 * minutes - result["seconds"] - result["validation_seconds"] - last
    trained = curves.seconds(run, [*found])
    return {
        (before + seconds + each * (number + 1)) / 60: value
        for number, (seconds, value) in enumerate(zip(trained, found.values(), strict=True))
    }
