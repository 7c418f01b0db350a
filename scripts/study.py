"""Studies of output layers: trains their runs, keeps the results, writes the tables of README.md and docs/study.md.

  python scripts/study.py --list                        the studies and their questions
  python scripts/study.py STUDY [DIRECTORY] [FLAGS]     trains what is not done (in runs/STUDY), with the flags of
                                                        python -m fixlm.compare, such as --jobs 2 or --table-only
  python scripts/study.py collect RUNS RESULTS          writes RESULTS/NAME.json for each run of RUNS that is done
  python scripts/study.py report                        renews the tables and figures of the pages from results/

The plan of a study is scripts/studies/STUDY.toml. A table stands between the lines <!-- table: STUDY --> and
<!-- end of table --> of a page.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixlm import compare
from fixlm.cli import run
from fixlm.errors import InputError, unknown_name

if TYPE_CHECKING:
    from fixlm.comparison.rows import Row

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "study.md")
STUDIES = {path.stem: path for path in sorted((ROOT / "scripts" / "studies").glob("*.toml"))}
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def command(arguments: Sequence[str]) -> None:
    """Does what the first word of the command line says."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__, end="")
    elif name == "--list":
        print("\n".join(f"{study:16}{read(study)['question']}" for study in STUDIES))
    elif name == "report" and not rest:
        report()
    elif name == "collect" and len(rest) == 2:
        collect(Path(rest[0]), Path(rest[1]))
    elif name in STUDIES:
        train(name, rest)
    elif name in ("report", "collect"):
        raise InputError(name, "wrong number of words", found=len(rest), expected="see --help")
    else:
        raise unknown_name("study.py", "study", name, [*STUDIES, "report", "collect"])


def read(study: str) -> dict[str, Any]:
    """The file of a study: the question, and the plan as `fixlm.comparison.plan.read_plan` takes it."""
    return tomllib.loads(STUDIES[study].read_text(encoding="utf-8"))


def train(study: str, arguments: Sequence[str]) -> None:
    """``python -m fixlm.compare DIRECTORY --plan FILE``, with the flag that chooses the best rows, if there is one."""
    given = bool(arguments) and not arguments[0].startswith("-")
    directory, *flags = arguments if given else [f"runs/{study}", *arguments]
    if any(flag.partition("=")[0] == "--plan" for flag in flags):
        raise InputError("--plan", "a study has its own plan", found=STUDIES[study].name, fix="drop the flag")
    best = [f"--best-by={name}"] if (name := read(study).get("best-by")) else []
    compare.command([directory, f"--plan={STUDIES[study]}", *best, *flags], "study.py")


def collect(runs: Path, results: Path) -> None:
    """Writes the summary of each run that is done below a directory."""
    from fixlm.comparison.status import read_run
    from fixlm.comparison.stored_run import DONE
    from fixlm.runs.summary import summarise, summary_path, write_summary

    found = map(read_run, sorted(config.parent for config in runs.glob("*/config.json")))
    if not (done := [each for each in found if each.state == DONE]):
        raise InputError(runs, "there is no run below it that is done")
    results.mkdir(parents=True, exist_ok=True)
    for each in done:
        # A comparison finds summaries by the seed in their names.
        name = each.path.name if "-seed" in each.path.name else f"{each.path.name}-seed{each.seed}"
        path = summary_path(results / name)
        write_summary(path, summarise(each.path))
        print(path)


def report() -> None:
    """Renews the tables of the pages, and those figures of the studies that a page names."""
    from fixlm.comparison.plots import PLOTS, draw

    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    named = "".join(pages.values())
    for study in sorted({name for _, name, _ in BLOCK.findall(named)}):
        shown = [name for name in PLOTS if f"results/{study}/{name}" in named]
        if shown:
            with tempfile.TemporaryDirectory() as drawn:
                draw(rows(study), Path(drawn))
                for name in shown:
                    shutil.copy(Path(drawn) / name, RESULTS / study)
    for page, text in pages.items():
        page.write_text(filled(text, page.parent), encoding="utf-8")


def filled(text: str, place: Path) -> str:
    """A page with its tables as the results have them now.

    Args:
        place: directory of the page, where links start.
    """
    return BLOCK.sub(lambda block: f"{block[1]}{table(block[2], place)}{block[3]}", text)


def rows(study: str) -> list[Row]:
    """The settings of a study with their runs below ``results/``, by validation perplexity."""
    from fixlm.comparison.plan import read_plan
    from fixlm.comparison.rows import rows_of, sort_rows
    from fixlm.comparison.status import survey

    planned = read_plan(STUDIES[study]).runs(RESULTS / study)
    return sort_rows(rows_of(planned, survey(planned)))


def table(study: str, place: Path) -> str:
    """The runs of a study in six columns, by rising validation perplexity; each row links the files of its runs."""
    from fixlm.comparison.stored_run import perplexity
    from fixlm.comparison.table import plus_minus

    found = rows(study)
    lines = ["| output layer | trained in it | in all | valid | test | runs, by seed |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for row in found:
        if row.done:
            counts = (f"{row.numbers('parameters', of)[0]:,}" for of in ("output_trainable", "trainable"))
            scores = (plus_minus(row.perplexities(split)) for split in ("valid", "test"))
            links = (f"[{run.seed}]({os.path.relpath(run.path, place)})" for run in row.done)
            lines.append(f"| {row.name} | {' | '.join(counts)} | {' | '.join(scores)} | {', '.join(links)} |")
    result = next(row.done[0].result for row in found if row.done)
    assert result is not None
    alone = (f"{perplexity(result['unigram'][split]):,.1f}" for split in ("valid", "test"))
    lines.append(f"| word frequencies alone | – | – | {' | '.join(alone)} | – |")
    missing = {row.name: [str(run.seed) for run in row.runs if run not in row.done] for row in found}
    listed = "; ".join(f"{name} (seed {', '.join(seeds)})" for name, seeds in missing.items() if seeds)
    if place == ROOT:
        listed = listed and "some rows, see [docs/study.md](docs/study.md)"
    note = f"\nNot run: {listed}.\n" if listed else ""
    return "\n".join(lines) + "\n" + note


if __name__ == "__main__":
    sys.exit(run(command))
