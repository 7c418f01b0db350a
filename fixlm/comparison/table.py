"""The table of a comparison: Markdown to read, CSV with a line a run, JSON with everything."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from embeddings.files import write_atomically
from fixlm.comparison.status import DONE, LOG, Row, Run, mean_and_deviation, perplexity, validation

COLUMNS = (
    "setting", "trained in the output layer", "trained", "fixed", "valid", "test", "seeds", "epochs", "steps",
    "seconds", "tokens/s", "threads",
)  # fmt: skip
MEASURES = {
    "valid": ("valid",), "test": ("test",), "output_trainable": ("parameters", "output_trainable"),
    "trainable": ("parameters", "trainable"), "fixed": ("parameters", "fixed"), "steps": ("steps",),
    "best_step": ("best_step",), "seconds": ("seconds",), "validation_seconds": ("validation_seconds",),
    "tokens_per_second": ("tokens_per_second",), "threads": ("threads",),
}  # fmt: skip
"""Names in CSV and JSON, and where the numbers stand in ``result.json``."""
SPEEDS = (
    "Seconds are those of training steps; they and tokens/s compare only between runs that had the machine to "
    "themselves, with as many threads."
)


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """By mean validation perplexity, texts apart; what has none stays in the given order, at the end of its text."""
    rows = list(rows)
    corpora = [row.corpus for row in rows if row.corpus]
    places = {corpus: place for place, corpus in enumerate(dict.fromkeys(corpora))}
    return sorted(rows, key=lambda row: (places.get(row.corpus or "", math.inf), validation(row)))


def markdown(rows: Sequence[Row], directory: Path, notes: Sequence[str] = ()) -> str:
    """The table with its notes; links are relative to ``directory``."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += [f"| {' | '.join(_cells(row, directory))} |" for row in rows]
    lines += [f"| {' | '.join(cells)} |" for cells in _unigrams(rows)]
    return "\n".join([*lines, "", *(f"- {note}" for note in [*explain(rows), *notes])]) + "\n"


def explain(rows: Sequence[Row]) -> list[str]:
    """What a reader has to know of these rows."""
    runs = [run for row in rows for run in row.runs]
    done = [run for run in runs if run.state == DONE and run.result]
    pieces = any("perplexity_per_word" in run.result["test"] for run in done if run.result)
    unit = "word of the original text" if pieces else "word"
    notes = [f"Perplexity per {unit}; rows are sorted by that of valid, which alone may choose between them."]
    if any(len(row.done) > 1 for row in rows):
        notes.append("Mean ± sample standard deviation over the seeds.")
    if any(_spread(row.numbers(*MEASURES["output_trainable"])) for row in rows):
        notes.append("Numbers of parameters that differ between the seeds of a row are those of the first.")
    notes.append(SPEEDS)
    shared = sorted({run.at_a_time for run in done if run.at_a_time and run.at_a_time > 1})
    if shared:
        names = ", ".join(run.path.name for run in done if run.at_a_time and run.at_a_time > 1)
        notes.append(
            f"Trained {' or '.join(map(str, shared))} at a time, so their speeds compare nothing: {names}."
        )
    unknown = [run.path.name for run in done if run.at_a_time is None]
    if unknown:
        notes.append(f"Whether these were trained one at a time is not recorded: {', '.join(unknown)}.")
    machines = {
        json.dumps(run.result["versions"], sort_keys=True)
        for run in done
        if run.result and "versions" in run.result
    }
    if len(machines) > 1:
        notes.append(
            "Not all runs are of the same versions and kind of processor (result.json has each run's)."
        )
    if len({row.corpus for row in rows if row.corpus}) > 1:
        notes.append("Rows are of different texts, sorted text by text: compare only rows of one text.")
    for run in runs:
        if run.state != DONE:
            notes.append(f"{run.path.name}: {run.shown_state}.")
    return notes


def to_json(rows: Sequence[Row], directory: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Plain values in full precision: of each row the mean and standard deviation, and each run's own."""
    found = []
    for row in rows:
        measures = {}
        for name in MEASURES:
            mean, deviation = mean_and_deviation(_values(row, name))
            measures[name] = {"mean": _finite(mean), "sd": _finite(deviation)}
        runs = [
            {
                "seed": run.seed,
                "run": _relative(run.path, directory),
                "state": run.state,
                "reason": run.reason or None,
                "runs_at_a_time": run.at_a_time,
                **{name: _finite(_value(run, name)) for name in MEASURES},
            }
            for run in row.runs
        ]
        found.append(
            {
                "setting": row.name,
                "n": len(row.done),
                "of": len(row.runs),
                **measures,
                "flags": row.flags,
                "runs": runs,
            }
        )
    return {"rows": found, "notes": [*explain(rows), *notes]}


def to_csv(rows: Sequence[Row], directory: Path) -> str:
    """A line a run; beside its own numbers the mean and standard deviation of its setting's perplexities."""
    summary = ["n", "valid_mean", "valid_sd", "test_mean", "test_sd"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["setting", "seed", "run", "state", "reason", *MEASURES, "runs_at_a_time", *summary])
    for row in rows:
        means = [
            value for split in ("valid", "test") for value in mean_and_deviation(row.perplexities(split))
        ]
        for run in row.runs:
            own = [_value(run, name) for name in MEASURES]
            where = [row.name, run.seed, _relative(run.path, directory), run.state, run.reason]
            writer.writerow([*where, *own, run.at_a_time, len(row.done), *means])
    return text.getvalue()


def write_tables(
    directory: Path, rows: Sequence[Row], notes: Sequence[str] = (), stem: str = "table"
) -> None:
    """``table.md``, ``table.csv`` and ``table.json`` (or another stem) in the directory."""
    values = json.dumps(to_json(rows, directory, notes), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = {"md": markdown(rows, directory, notes), "csv": to_csv(rows, directory), "json": values}
    for ending, text in texts.items():
        write_atomically(directory / f"{stem}.{ending}", text.encode())


def number(value: float) -> str:
    """A perplexity with one decimal, as it stands in the table."""
    return f"{value:,.1f}" if value < 1e9 else f"{value:.2g}"


def _cells(row: Row, directory: Path) -> list[str]:
    name = _escape(row.name)
    there = [run for run in row.runs if run.config]
    name = f"[{name}]({_link(there[0].path, directory)})" if there else name
    seeds = ", ".join(_seed(run, directory) for run in row.runs)
    if not row.done:
        states = ", ".join(dict.fromkeys(run.state for run in row.runs))
        return [name, "–", "–", "–", states, states, seeds, *["–"] * 5]
    parameters = [f"{_values(row, key)[0]:,.0f}" for key in ("output_trainable", "trainable", "fixed")]
    epochs, _ = mean_and_deviation(row.epochs())
    steps, seconds, speed = (
        mean_and_deviation(_values(row, key))[0] for key in ("steps", "seconds", "tokens_per_second")
    )
    threads = "/".join(f"{value:.0f}" for value in dict.fromkeys(_values(row, "threads"))) or "–"
    return [
        name,
        *parameters,
        *(plus_minus(row.perplexities(split)) for split in ("valid", "test")),
        seeds,
        f"{epochs:.3g}",
        f"{steps:,.0f}",
        f"{seconds:,.0f}",
        f"{speed:,.0f}",
        threads,
    ]


def plus_minus(values: Sequence[float]) -> str:
    """``204.0 ± 1.3``; a single value by itself."""
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return "–"
    return number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"


def _seed(run: Run, directory: Path) -> str:
    log = run.path / LOG
    place = log if log.is_file() else run.path
    shown = f"[{run.seed}]({_link(place, directory)})" if place.exists() else str(run.seed)
    return shown if run.state == DONE else f"{shown} ({run.state})"


def _unigrams(rows: Sequence[Row]) -> list[list[str]]:
    """A row of what word frequencies alone reach, of each text."""
    found = {}
    for row in rows:
        for run in row.done:
            assert run.result is not None
            scores = [number(perplexity(run.result["unigram"][split])) for split in ("valid", "test")]
            name = f"word frequencies alone ({_escape(run.result['corpus'].get('name', 'text'))})"
            found[row.corpus] = [name, "–", "–", "–", *scores, *["–"] * 6]
    return [*found.values()]


def _value(run: Run, name: str) -> float | None:
    value: Any = run.result
    if name in ("valid", "test") and run.result:
        return perplexity(run.result[name])
    for key in MEASURES[name]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _values(row: Row, name: str) -> list[float]:
    return [value for run in row.done if (value := _value(run, name)) is not None]


def _spread(values: Sequence[float]) -> bool:
    return len({*values}) > 1


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _relative(path: Path, directory: Path) -> str:
    return os.path.relpath(path, directory).replace(os.sep, "/")


def _link(path: Path, directory: Path) -> str:
    return quote(_relative(path, directory))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[").replace("]", "\\]")
