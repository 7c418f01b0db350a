"""The table of a comparison: one pandas frame, written as Markdown to read, CSV with a line a run, and JSON."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from embeddings.files import write_atomically, write_json
from fixlm.comparison.rows import Row, mean_and_deviation
from fixlm.comparison.stored_run import DONE, StoredRun
from fixlm.runs.result_file import perplexity

SPLITS = ("valid", "test")
MIXED = {f"{split}_with_ngrams": split for split in SPLITS}
"""Names in CSV and JSON of the perplexities with n-grams, and in the table where a run has them."""
MEASURES = {
    "valid": ("valid",), "test": ("test",), "output_trainable": ("parameters", "output_trainable"),
    "trainable": ("parameters", "trainable"), "fixed": ("parameters", "fixed"), "steps": ("steps",),
    "best_step": ("best_step",), "seconds": ("seconds",), "validation_seconds": ("validation_seconds",),
    "tokens_per_second": ("tokens_per_second",), "threads": ("threads",),
}  # fmt: skip
"""Names in CSV and JSON, and where the numbers stand in ``result.json``; the splits stand for their perplexities."""
RUN = ("seed", "run", "state", "reason", "runs_at_a_time")
SPEEDS = (
    "Seconds are those of training steps; they and tokens/s compare only between runs that had the machine to "
    "themselves, with as many threads."
)
NOTHING = "–"


def to_frame(rows: Sequence[Row], directory: Path) -> pd.DataFrame:
    """A row a run: ``place`` of its setting in ``rows``, ``setting``, `RUN`, `MEASURES`, ``epochs``; None for nothing.

    Columns are of Python's own objects, so that whole numbers stay whole beside a run that has none.
    """
    runs = [
        {
            "place": place,
            "setting": row.name,
            "seed": run.seed,
            "run": _relative(run.path, directory),
            "state": run.state,
            "reason": run.reason or None,
            "runs_at_a_time": run.runs_at_a_time,
            **{name: run.number(*keys) for name, keys in MEASURES.items()},
            **{split: run.perplexity(split) for split in SPLITS},
            **{name: run.perplexity_with_ngrams(split) for name, split in MIXED.items()},
            "epochs": run.epochs,
        }
        for place, row in enumerate(rows)
        for run in row.runs
    ]
    return pd.DataFrame(runs, columns=["place", "setting", *RUN, *MEASURES, *MIXED, "epochs"], dtype=object)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a setting, by its place; columns (measure, "mean") and (measure, "sd"), over the runs that have it."""

    def mean(values: pd.Series) -> float | None:
        return mean_and_deviation([*values.dropna()])[0]

    def sd(values: pd.Series) -> float | None:
        return mean_and_deviation([*values.dropna()])[1]

    return frame.groupby("place")[[*MEASURES, *MIXED, "epochs"]].agg([mean, sd])


def markdown(rows: Sequence[Row], directory: Path, notes: Sequence[str] = ()) -> str:
    """The table with its notes; links are relative to ``directory``."""
    frame = to_frame(rows, directory)
    first = frame.groupby("place").first()
    means = summarize(frame).xs("mean", axis="columns", level=1)
    threads = frame.groupby("place")["threads"].unique()
    cells = pd.DataFrame(
        {
            "setting": [_name(row, directory) for row in rows],
            "trained in the output layer": _numbers(first["output_trainable"]),
            "trained": _numbers(first["trainable"]),
            "fixed": _numbers(first["fixed"]),
            **{split: [_score(row, split) for row in rows] for split in SPLITS},
            **{f"{split} with n-grams": mixed for split, mixed in _with_ngrams(rows).items()},
            "seeds": [", ".join(_seed(run, directory) for run in row.runs) for row in rows],
            "epochs": _numbers(means["epochs"], ".3g"),
            "steps": _numbers(means["steps"]),
            "seconds": _numbers(means["seconds"]),
            "tokens/s": _numbers(means["tokens_per_second"]),
            "threads": ["/".join(f"{each:.0f}" for each in row if each) or NOTHING for row in threads],
        },
        dtype=object,
    )
    header, *lines = (
        f"| {' | '.join(line)} |\n"
        for line in [[*cells], *cells.to_numpy().tolist(), *_unigrams(rows, len(cells.columns))]
    )
    table = header + "|---|" + "---:|" * (len(cells.columns) - 1) + "\n" + "".join(lines)
    return table + "\n" + "".join(f"- {note}\n" for note in [*explain(rows), *notes])


def to_csv(rows: Sequence[Row], directory: Path) -> str:
    """A line a run; beside its own numbers the mean and standard deviation of its setting's perplexities."""
    frame = to_frame(rows, directory)
    summary = summarize(frame)
    frame["n"] = [len(rows[place].done) for place in frame["place"]]
    for split in SPLITS:
        for of in ("mean", "sd"):
            frame[f"{split}_{of}"] = frame["place"].map(summary[split, of])
    after = ["runs_at_a_time", "n", "valid_mean", "valid_sd", "test_mean", "test_sd"]
    columns = ["setting", *RUN[:-1], *MEASURES, *after, *MIXED]
    return frame.to_csv(columns=columns, index=False, lineterminator="\n")


def to_json(rows: Sequence[Row], directory: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Plain values in full precision: of each row the mean and standard deviation, and each run's own."""
    frame = to_frame(rows, directory)
    summary = summarize(frame)
    found = []
    for place, row in enumerate(rows):
        runs = frame.loc[frame["place"] == place, [*RUN, *MEASURES, *MIXED]].to_dict("records")
        measures = {
            name: {of: _finite(summary.loc[place, (name, of)]) for of in ("mean", "sd")} for name in (*MEASURES, *MIXED)
        }
        found.append(
            {
                "setting": row.name,
                "n": len(row.done),
                "of": len(row.runs),
                **measures,
                "flags": row.flags,
                "runs": [{key: _finite(value) for key, value in run.items()} for run in runs],
            }
        )
    return {"rows": found, "notes": [*explain(rows), *notes]}


def write_tables(directory: Path, rows: Sequence[Row], notes: Sequence[str] = (), stem: str = "table") -> None:
    """``table.md``, ``table.csv`` and ``table.json`` (or another stem) in the directory."""
    write_json(directory / f"{stem}.json", to_json(rows, directory, notes))
    for ending, text in {"md": markdown(rows, directory, notes), "csv": to_csv(rows, directory)}.items():
        write_atomically(directory / f"{stem}.{ending}", text.encode())


def remove_tables(directory: Path, stem: str) -> None:
    """Removes what `write_tables` wrote, if it is there."""
    for ending in ("json", "md", "csv"):
        (directory / f"{stem}.{ending}").unlink(missing_ok=True)


def explain(rows: Sequence[Row]) -> list[str]:
    """What a reader has to know about these rows."""
    runs = [run for row in rows for run in row.runs]
    done = [run for row in rows for run in row.done]
    results = [run.result for run in done if run.result]
    pieces = any("perplexity_per_word" in result["test"] for result in results)
    unit = "word of the original text" if pieces else "word"
    notes = [f"Perplexity per {unit}; rows are sorted by that of valid, which alone may choose between them."]
    if any(len(row.done) > 1 for row in rows):
        notes.append("Mean ± sample standard deviation over the seeds.")
    if any(len({*row.numbers(*MEASURES["output_trainable"])}) > 1 for row in rows):
        notes.append("Numbers of parameters that differ between the seeds of a row are those of the first.")
    notes.append(SPEEDS)
    shared = [run for run in done if (run.runs_at_a_time or 0) > 1]
    if shared:
        numbers = " or ".join(map(str, sorted({run.runs_at_a_time for run in shared if run.runs_at_a_time})))
        names = ", ".join(run.path.name for run in shared)
        notes.append(f"Trained {numbers} at a time, so their speeds compare nothing: {names}.")
    unknown = [run.path.name for run in done if run.runs_at_a_time is None]
    if unknown:
        notes.append(f"Whether these were trained one at a time is not recorded: {', '.join(unknown)}.")
    machines = {json.dumps(result["versions"], sort_keys=True) for result in results if "versions" in result}
    if len(machines) > 1:
        notes.append("Not all runs are of the same versions and kind of processor (result.json has each run's).")
    if len({row.corpus for row in rows if row.corpus}) > 1:
        apart = "Rows are of different texts, or cut otherwise, and are sorted apart."
        notes.append(f"{apart} Of one text, perplexities per word compare.")
    for run in runs:
        if run.state != DONE:
            notes.append(f"{run.path.name}: {': '.join(filter(None, (run.state, run.reason)))}.")
    return notes


def number(value: float) -> str:
    """A perplexity with one decimal, as it stands in the table."""
    return f"{value:,.1f}" if value < 1e9 else f"{value:.2g}"


def plus_minus(values: Sequence[float]) -> str:
    """``204.0 ± 1.3``; a single value by itself."""
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return NOTHING
    return number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"


def _numbers(values: pd.Series, digits: str = ",.0f") -> list[str]:
    return [NOTHING if pd.isna(value) else format(value, digits) for value in values]


def _name(row: Row, directory: Path) -> str:
    there = [run for run in row.runs if run.config]
    name = _escape(row.name)
    return f"[{name}]({_link(there[0].file or there[0].path, directory)})" if there else name


def _score(row: Row, split: str) -> str:
    """Perplexity of a split, or what became of the runs where none is done."""
    if not row.done:
        return ", ".join(dict.fromkeys(run.state for run in row.runs))
    return plus_minus(row.perplexities(split))


def _with_ngrams(rows: Sequence[Row]) -> dict[str, list[str]]:
    """By split the perplexities with n-grams of each row; nothing where no run has them."""
    found = {
        split: [[value for run in row.done if (value := run.perplexity_with_ngrams(split)) is not None] for row in rows]
        for split in SPLITS
    }

    def shown(values: list[float], row: Row) -> str:
        part = f" ({len(values)} of {len(row.done)} seeds)" if 0 < len(values) < len(row.done) else ""
        return plus_minus(values) + part

    return {split: [*map(shown, each, rows)] for split, each in found.items() if any(each)}


def _seed(run: StoredRun, directory: Path) -> str:
    place = run.log if run.log.is_file() else run.file or run.path
    shown = f"[{run.seed}]({_link(place, directory)})" if place.exists() else str(run.seed)
    return shown if run.state == DONE else f"{shown} ({run.state})"


def _unigrams(rows: Sequence[Row], columns: int) -> list[list[str]]:
    """A line of what word frequencies alone reach, for each text."""
    found = {}
    for row in rows:
        for run in row.done:
            assert run.result is not None
            scores = [number(perplexity(run.result["unigram"][split])) for split in SPLITS]
            about = run.result["corpus"]
            name = f"{about['unit']} frequencies alone ({_escape(about.get('name', 'text'))})"
            line = [name, *[NOTHING] * 3, *scores]
            found[row.corpus] = line + [NOTHING] * (columns - len(line))
    return [*found.values()]


def _finite(value: Any) -> Any:
    """The value for JSON, which has neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _relative(path: Path, directory: Path) -> str:
    return os.path.relpath(path, directory).replace(os.sep, "/")


def _link(path: Path, directory: Path) -> str:
    return quote(_relative(path, directory))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[").replace("]", "\\]")
