"""Writes the tables of docs/study.md and README.md anew from the runs under results/, and the plots beside those runs.

python scripts/study_report.py

A table stands between the lines ``<!-- table: NAME -->`` and ``<!-- end of table -->``, NAME being the folder under
results/ that holds the runs of a study.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from fixlm.cli import run
from fixlm.compare import Plan
from fixlm.config.command_line import Parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "study.md")
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def command(arguments: Sequence[str]) -> None:
    """Parses and writes."""
    from fixlm.comparison.comparison import tabulate

    Parser(prog="study_report.py", description=__doc__).parse_args(list(arguments))
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for study in sorted({name for text in pages.values() for _, name, _ in BLOCK.findall(text)}):
        tabulate(ROOT / "results" / study, plan(study))
    for page, text in pages.items():
        page.write_text(filled(text, page.parent), encoding="utf-8")


def plan(study: str) -> Plan:
    """What the program of a study trains: that of ``layers`` is ``study_layers.py``."""
    module = importlib.import_module(f"study_{study.replace('-', '_')}")
    return Plan(module.SETTINGS, [1], module.COMMON)


def filled(text: str, place: Path) -> str:
    """A page with its tables as the results have them now.

    Args:
        place: directory of the page, where links start.
    """
    return BLOCK.sub(lambda block: f"{block[1]}{table(block[2], place)}{block[3]}", text)


def table(study: str, place: Path) -> str:
    """The runs of a study in six columns, by falling quality; each row links the logs of its runs."""
    from fixlm.comparison.rows import rows_of, sort_rows
    from fixlm.comparison.status import perplexity, survey
    from fixlm.comparison.table import plus_minus

    directory = ROOT / "results" / study
    planned = plan(study).runs(directory)
    rows = rows_of(planned, survey(planned))
    lines = ["| output layer | trained in it | in all | valid | test | logs, by seed |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for row in sort_rows(rows):
        if row.done:
            counts = (f"{row.numbers('parameters', of)[0]:,}" for of in ("output_trainable", "trainable"))
            scores = (plus_minus(row.perplexities(split)) for split in ("valid", "test"))
            logs = (f"[{run.seed}]({os.path.relpath(run.log, place)})" for run in row.done)
            lines.append(f"| {row.name} | {' | '.join(counts)} | {' | '.join(scores)} | {', '.join(logs)} |")
    result = next(row.done[0].result for row in rows if row.done)
    assert result is not None
    alone = (f"{perplexity(result['unigram'][split]):,.1f}" for split in ("valid", "test"))
    lines.append(f"| word frequencies alone | – | – | {' | '.join(alone)} | – |")
    missing = {row.name: [str(run.seed) for run in row.runs if run not in row.done] for row in rows}
    listed = "; ".join(f"{name} (seed {', '.join(seeds)})" for name, seeds in missing.items() if seeds)
    if place == ROOT:
        listed = listed and "some rows, see [docs/study.md](docs/study.md)"
    note = f"\nNot run: {listed}.\n" if listed else ""
    return "\n".join(lines) + "\n" + note


if __name__ == "__main__":
    sys.exit(run(command))
