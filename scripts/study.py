"""Studies of output layers: trains their runs, keeps the results, writes the tables and pictures of the pages.

  python scripts/study.py --list                        the studies and their questions
  python scripts/study.py STUDY [DIRECTORY] [FLAGS]     trains what is not done (in runs/STUDY), with the flags of
                                                        python -m fixlm.compare, such as --jobs 2 or --table-only
  python scripts/study.py collect RUNS RESULTS          writes RESULTS/NAME.json for each run of RUNS that is done;
                                                        with RESULTS/runs.jsonl, adds them to this one file
  python scripts/study.py report                        renews the tables and pictures of the pages from results/

The plan of a study is scripts/studies/STUDY.toml. A table stands between the lines <!-- table: STUDY --> and
<!-- end of table --> of a page, and that of pieces by layer and size at <!-- table: subwords-grid-N -->.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study_report import STUDIES, report

from fixlm import compare
from fixlm.cli import run
from fixlm.errors import InputError, unknown_name

PROGRESS = re.compile(r": [\d,]+/[\d,]+(, [\d,]+ s left)?$")
"""The end of a line of progress. Of training, the metrics have what such a line says."""


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
    """Writes the summary of each run that is done below a directory, without the places where its files lay."""
    from fixlm.comparison.find_runs import read_run
    from fixlm.comparison.stored_run import DONE
    from fixlm.runs import summary as kept_runs

    found = {}
    for each in map(read_run, sorted(config.parent for config in runs.glob("*/config.json"))):
        if each.state == DONE:
            # A comparison finds summaries by the seed in their names.
            name = each.path.name if "-seed" in each.path.name else f"{each.path.name}-seed{each.seed}"
            found[name] = to_keep(kept_runs.summarise(each.path), each.path)
    if not found:
        raise InputError(runs, "there is no run below it that is done")
    together = results.name == kept_runs.SUMMARIES
    folder = results.parent if together else results
    kept = kept_runs.read_summaries(folder / kept_runs.SUMMARIES)
    for name, summary in found.items():
        alone = kept_runs.summary_path(folder / name)
        _require_same(name, summary, kept_runs.read_summary(alone) if alone.is_file() else kept.get(name))
        if name in kept and not together:
            what, fix = "this run is kept in a file of several", f"collect into {folder / kept_runs.SUMMARIES}"
            raise InputError(name, what, found=folder, fix=fix)
    folder.mkdir(parents=True, exist_ok=True)
    if together:
        kept_runs.add_summaries(results, found)
        for name in found:
            kept_runs.summary_path(results.with_name(name)).unlink(missing_ok=True)  # a run stands in one place
        print(results)
    else:
        for name, summary in found.items():
            kept_runs.write_summary(kept_runs.summary_path(results / name), summary)
            print(kept_runs.summary_path(results / name))


def _require_same(name: str, summary: Mapping[str, Any], kept: Mapping[str, Any] | None) -> None:
    """Raises InputError if what is kept under a name is another run: many studies have a ``tied-seed1``."""
    from fixlm.config.read import by_flag

    if kept is not None:
        now, before = by_flag(summary["config"]), by_flag(kept["config"])
        different = [f"{flag} {before.get(flag)}" for flag in now if flag != "--data" and before.get(flag) != now[flag]]
        texts = [each["config"]["corpus"]["sha256"] for each in (summary, kept)]
        different += ["--data with another text"] if texts[0] != texts[1] else []
        if different:
            what, fix = "another run is kept under this name", "another place for the results"
            raise InputError(name, what, found=", ".join(different), fix=fix)


def to_keep(summary: dict[str, Any], run: Path) -> dict[str, Any]:
    """The summary as it would be, had the run been trained in runs/ and on a text by its name.

    The log loses its lines of progress.
    """
    from fixlm.corpus.registry import DATA_SETS
    from fixlm.runs.export import without_places

    config = without_places(summary["config"])
    name = config["corpus"]["name"]
    config["data"]["data"] = name if name in DATA_SETS else Path(config["data"]["data"]).name
    here = Path("runs", run.absolute().parent.name, run.name).as_posix()
    log = [line.replace(str(run), here) for line in summary["log"] if not PROGRESS.search(line)]
    return summary | {"config": config, "log": log}


if __name__ == "__main__":
    sys.exit(run(command))
