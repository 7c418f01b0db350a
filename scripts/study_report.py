"""The tables and pictures of the pages, made of what is committed below results/."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixlm.comparison.rows import Row
    from fixlm.comparison.stored_run import StoredRun

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
STUDIES = {path.stem: path for path in sorted((ROOT / "scripts" / "studies").glob("*.toml"))}
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

FIRST = "five-layers"
"""The study of the README's table and picture."""
STEPS = RESULTS / "benchmark" / "steps.json"
"""The times of steps, each measurement by its name."""
FIRST_STEPS = "steps-256-4096"
"""The benchmark whose times of a step stand beside that study: the same sizes, alone on the machine."""
OTHER_STEPS = "steps-256-4096-amx"
"""Another measurement, for a layer that the first one lacks: an older version of the benchmark did not time it."""
PIECES = "subwords"
"""The study of vocabularies of several sizes C, some of them no larger than N."""
PIECES_GRIDS = {"subwords-grid-256": 256, "subwords-grid-512": 512}
"""Its tables by layer and by C, of the runs in bfloat16 with this N; they stand beside the one with a row a run."""
PIECES_RATIOS = "subwords-ratios"
"""Its table against `learned`, of the models whose layers have one number of units, by C/N."""
PIECES_N = 256
"""Its picture has whole lines for this N, and broken ones with open circles for others."""
Size = tuple[int, int, int]
"""C, the units of the first LSTM layer, and N, those of the last one."""
PIECES_LAYERS = ("learned", "tied", "random-orthogonal", "hadamard", "pmi", "walsh")
MEASURED_WITH = "tied"
"""The layer whose time is 1."""
WHAT = {
    "learned": "an ordinary softmax layer, all of it trained",
    "tied": "a softmax layer whose weights are the input embedding",
    "walsh": "fixed ±1 codes, of which words of one kind share a part, behind a trained matrix (4,096 families)",
    "pmi": "fixed word vectors from co-occurrence counts (pointwise mutual information)",
    "hadamard": "fixed ±1 vectors that know nothing of words",
}
"""The README's words for the layers of that study."""


LONG_LIST = 8
"""Settings without a run, from which on they are no longer a line each."""


def report() -> None:
    """Renews the tables of all pages, and the pictures that a page shows."""
    from benchmark_report import plot_growth
    from race_report import plot_races

    from fixlm.comparison.plots import PLOTS, draw

    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    named = "".join(pages.values())
    for study in STUDIES:
        shown = [name for name in PLOTS if f"results/{study}/{name}" in named]
        if shown:
            with tempfile.TemporaryDirectory() as drawn:
                draw(rows(study), Path(drawn))
                for name in shown:
                    shutil.copy(Path(drawn) / name, RESULTS / study)
    plot_first(RESULTS / FIRST / "valid-time.png")
    plot_pieces(RESULTS / PIECES / "pieces.png")
    plot_races(RESULTS / "speedrun", RESULTS / "speedrun" / "minutes.png")
    growth = json.loads((RESULTS / "benchmark" / "full.json").read_text(encoding="utf-8"))["growth"]
    plot_growth(growth, RESULTS / "benchmark" / "growth.png")
    for page, text in pages.items():
        page.write_text(filled(text, page.parent), encoding="utf-8")


def filled(text: str, place: Path) -> str:
    """A page with its tables as the results have them now.

    Args:
        place: directory of the page, where links start.
    """

    def block(found: re.Match[str]) -> str:
        if found[2] in PIECES_GRIDS:
            made = pieces_table(PIECES_GRIDS[found[2]])
        elif found[2] == PIECES_RATIOS:
            made = pieces_ratios()
        elif place == ROOT:
            made = first_table()
        else:
            made = table(found[2], place)
        return f"{found[1]}{made}{found[3]}"

    return BLOCK.sub(block, text)


def rows(study: str) -> list[Row]:
    """The settings of a study with their runs below ``results/``, by validation perplexity."""
    from fixlm.comparison.find_runs import survey
    from fixlm.comparison.plan import read_plan
    from fixlm.comparison.rows import rows_of, sort_rows

    planned = read_plan(STUDIES[study]).runs(RESULTS / study)
    return sort_rows(rows_of(planned, survey(planned)))


def table(study: str, place: Path) -> str:
    """The runs of a study in six columns, by rising validation perplexity; each row links the files of its runs."""
    from fixlm.runs.result_file import perplexity

    found = rows(study)
    lines = ["| output layer | trained in it | in all | valid | test | runs, by seed |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for row in found:
        if row.done:
            links = (f"[{run.seed}]({os.path.relpath(run.file or run.path, place)})" for run in row.done)
            lines.append(f"| {row.name} | {' | '.join([*counts(row), *scores(row)])} | {', '.join(links)} |")
    result = next((row.done[0].result for row in found if row.done), None)
    if result is not None and len({row.corpus for row in found if row.done}) == 1:
        alone = (f"{perplexity(result['unigram'][split]):,.1f}" for split in ("valid", "test"))
        lines.append(f"| word frequencies alone | – | – | {' | '.join(alone)} | – |")
    missing = {row.name: [str(run.seed) for run in row.runs if run not in row.done] for row in found}
    listed = [f"{name} (seed {', '.join(seeds)})" for name, seeds in missing.items() if seeds]
    if len(listed) <= LONG_LIST:
        note = "\nNot run:\n\n" + "".join(f"- {each}\n" for each in listed) if listed else ""
    else:
        plan = os.path.relpath(STUDIES[study], place)
        note = f"\nNot run: {len(listed)} of the {len(found)} settings of [its plan]({plan}).\n"
    return "\n".join(lines) + "\n" + note


def first_table() -> str:
    """The README's table: one row a layer, with what it is and how long its steps take."""
    columns = (
        "what it is | valid perplexity | test perplexity | trained in the layer | trained in the model | step time"
    )
    lines = [f"| layer | {columns} |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|"]
    times = step_times()
    for row in rows(FIRST):
        if row.done:
            name = f"[`{row.name}`]({os.path.relpath(row.done[0].path, ROOT)})"
            time = f"{times[row.name]:.2f}" if row.name in times else "–"
            lines.append(f"| {' | '.join([name, WHAT[row.name], *scores(row), *counts(row), time])} |")
    return "\n".join(lines) + "\n"


def counts(row: Row) -> list[str]:
    """How many numbers are trained: in the output layer, and in all."""
    return [f"{row.numbers('parameters', of)[0]:,.0f}" for of in ("output_trainable", "trainable")]


def scores(row: Row) -> list[str]:
    """Perplexity on valid and on test."""
    from fixlm.comparison.table import plus_minus

    return [plus_minus(row.perplexities(split)) for split in ("valid", "test")]


def step_times() -> dict[str, float]:
    """The time of a training step with each layer, as a multiple of one with `MEASURED_WITH`."""
    steps = json.loads(STEPS.read_text(encoding="utf-8"))
    first, other = steps[FIRST_STEPS], steps[OTHER_STEPS]
    times: dict[str, float] = first["microseconds_per_token"]["step"]
    # Other programs ran beside this one: the ratios within a round bear that, the medians of the times do not.
    ratios: dict[str, float] = other["ratios"]
    found = {name: ratios[f"{MEASURED_WITH}_step"] / ratios[f"{name}_step"] for name in WHAT}
    return found | {name: time / times[MEASURED_WITH] for name, time in times.items() if name in WHAT}


def plot_first(path: Path) -> None:
    """Validation perplexity against time, 1 being the whole run of `MEASURED_WITH`.

    The time is computed from the tokens and from the benchmark, not from the clock of runs that shared a machine.
    """
    from fixlm.comparison import curves
    from fixlm.comparison.plots import save, valid_against

    times = step_times()
    found = [row for row in rows(FIRST) if row.done and row.name in times]
    whole = {row.name: curves.tokens(run, [run.result["steps"]])[0] for row in found for run in row.done if run.result}
    if MEASURED_WITH not in whole:
        return

    def relative(run: StoredRun, steps: Sequence[int]) -> list[float]:
        assert run.config is not None
        time = times[run.config["model"]["output_embed"]] / whole[MEASURED_WITH]
        return [tokens * time for tokens in curves.tokens(run, steps)]

    across = f"training time on one thread of an AMD EPYC (1 = two epochs with {MEASURED_WITH})"
    save(path, lambda: valid_against(found, relative, across))


def pieces() -> dict[str, dict[Size, float]]:
    """The best validation perplexity per word of each layer, by size, among the runs of pieces in bfloat16."""
    from fixlm.runs.result_file import perplexity

    found: dict[str, dict[Size, float]] = {}
    for run in (run for row in rows(PIECES) for run in row.done):
        assert run.config is not None
        assert run.result is not None
        model = run.config["model"]
        # A learned map in front of the matrix is a layer of its own.
        if run.config["optimization"]["precision"] == "bfloat16" and not model.get("output_dim"):
            units = model["hidden_size"], model["last_hidden_size"] or model["hidden_size"]
            size = run.config["corpus"]["vocabulary_size"], *units
            known = found.setdefault(model["output_embed"], {})
            known[size] = min(known.get(size, math.inf), perplexity(run.result["valid"]))
    return found


def pieces_table(n: int) -> str:
    """Those perplexities where N is n: a row a layer, a column a size."""
    found = {layer: {size: value for size, value in known.items() if size[2] == n} for layer, known in pieces().items()}
    sizes = sorted({size for known in found.values() for size in known})
    names = (f"C = {c:,}" + ("" if first == n else f", {first} + {n} units") for c, first, _ in sizes)
    lines = [f"| layer | {' | '.join(names)} |"]
    lines += ["|---|" + "---:|" * len(sizes), "| C/N | " + " | ".join(f"{c / n:.3g}" for c, _, _ in sizes) + " |"]
    for layer in (layer for layer in PIECES_LAYERS if found.get(layer)):
        cells = (f"{found[layer][size]:.1f}" if size in found[layer] else "–" for size in sizes)
        lines.append(f"| `{layer}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def pieces_ratios() -> str:
    """The perplexity of each layer in parts of that of `learned` of the same size: a column for each C/N."""
    found = pieces()
    learned = found.pop("learned", {})
    sizes = sorted((size for size in learned if size[1] == size[2]), key=lambda size: size[0] / size[2])
    lines = [f"| C/N | {' | '.join(f'{c / n:.3g}' for c, _, n in sizes)} |", "|---|" + "---:|" * len(sizes)]
    lines.append(f"| N | {' | '.join(str(n) for *_, n in sizes)} |")
    for layer in (layer for layer in PIECES_LAYERS if found.get(layer)):
        cells = (f"{found[layer][size] / learned[size]:.2f}" if size in found[layer] else "–" for size in sizes)
        lines.append(f"| `{layer}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot_pieces(path: Path) -> None:
    """What each layer loses against `learned`, in validation nats a word, against C/N; of each the best run.

    Models with a first layer of another size are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    from fixlm.comparison.line_labels import label_lines
    from fixlm.comparison.plots import COLOURS, HEIGHT, WIDTH, save

    found = pieces()
    learned = found.pop("learned", {})
    nats = {
        layer: {size: math.log(value / learned[size]) for size, value in known.items() if size in learned}
        for layer, known in found.items()
    }

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for colour, layer in zip(COLOURS, PIECES_LAYERS[1:], strict=False):
            lost = sorted((c / n, value, n) for (c, first, n), value in nats.get(layer, {}).items() if first == n)
            line = [(across, value) for across, value, n in lost if n == PIECES_N]
            if line:
                axes.plot(*zip(*line, strict=True), "o-", color=colour, label=layer)
            others = [(across, value) for across, value, n in lost if n != PIECES_N]
            if others:
                axes.plot(*zip(*others, strict=True), "o--", color=colour, markerfacecolor="none", linewidth=1)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100])
        axes.set_xlabel("C/N: pieces in the vocabulary for each dimension of the output matrix")
        axes.set_ylabel("nats a word above learned")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.spines[["top", "right"]].set_visible(False)
        label_lines(figure)
        return figure

    if any(nats.values()):
        save(path, draw)
