"""``python -m fixlm.compare``: train a grid of settings and seeds, and write its table and plots."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.options import Checked, Count, option
from fixlm.cli import run
from fixlm.comparison.grid import requested_plan
from fixlm.comparison.plan import Plan, Setting, grouping
from fixlm.config.command_line import Parser, add_options, read_options
from fixlm.errors import InputError, RunsFailed, launched_ranks

if TYPE_CHECKING:
    from fixlm.comparison.comparison import compare

__all__ = ["Plan", "Setting", "compare"]

EPILOGUE = """\
Every flag of fixlm.train may have several values, separated by commas (a comma within a value is written \\,); a
switch varies where both forms are given, as in --normalize --no-normalize. The grid is their product; each run has a
directory below DIRECTORY, named by what varies. Runs that are done are not trained again, those that were cut go on.
DIRECTORY then holds plan.json, table.md, table.csv, table.json and the plots as PNG.

examples:
  python -m fixlm.compare runs/layers --data wikitext-2 --output-embed tied,pmi,walsh --seed 1,2,3
  python -m fixlm.compare runs/rates --output-embed tied,pmi --lr 0.003,0.006 --best-by output-embed
  python -m fixlm.compare runs/layers            # goes on with the grid that is there
  python -m fixlm.compare results --table-only   # any directory of runs"""


@dataclass(frozen=True)
class CompareConfig(Checked):
    """The comparison itself."""

    plan: str | None = option(
        None, "JSON or TOML file with a list of settings, in place of a grid. A flag that is given replaces theirs"
    )
    jobs: Count = option(
        1, "number of runs that are trained at the same time. Each has --threads threads, or an equal share"
    )
    table_only: bool = option(False, "train nothing, write the table and the plots of the runs that are there")
    best_by: str | None = option(
        None, "a flag. best.md then holds, for each of its values, the row with the lowest validation perplexity"
    )


def command(arguments: list[str], program: str = "python -m fixlm.compare") -> None:
    """Parses, trains what is left, writes, prints; raises RunsFailed if there is reason to."""
    if launched_ranks() > 1:
        what, fix = "starts its runs by itself", "start it without torchrun; fixlm.train is what torchrun starts"
        raise InputError("fixlm.compare", what, found=f"{launched_ranks()} processes", expected=1, fix=fix)
    directory, config, flags = _parse(make_parser(program), arguments)
    best_by = config.best_by and grouping(config.best_by)
    plan = requested_plan(directory, flags, config.plan)
    if plan is None and not config.table_only:
        fix = "name the grid, as in --output-embed tied,pmi,walsh --seed 1,2,3"
        raise InputError(directory, "there is no plan.json to go on with", fix=fix)
    from fixlm.comparison.comparison import tabulate, train_plan

    if plan is None or config.table_only:
        comparison = tabulate(directory, plan, best_by)
    else:
        comparison = train_plan(directory, plan, config.jobs, best_by)
    print((directory / "table.md").read_text(encoding="utf-8"), end="")
    if comparison.failed and not config.table_only:
        count = len(comparison.failed)
        raise RunsFailed(f"{count} {'run' if count == 1 else 'runs'} failed; the same command tries again", 1)


def make_parser(program: str) -> Parser:
    """The flags of a comparison and those of a training run; importing nothing heavy."""
    from fixlm.train import add_flags

    usage, description = f"{program} DIRECTORY [FLAGS]", __doc__.partition(": ")[2]
    parser = Parser(prog=program, usage=usage, description=description, epilog=EPILOGUE)
    parser.add_argument("directory", metavar="DIRECTORY", help="where the runs are, a directory each")
    add_options(parser.add_argument_group("comparison", CompareConfig.__doc__), CompareConfig)
    add_flags(parser, skip=("run", "resume"))
    return parser


def _parse(parser: Parser, arguments: list[str]) -> tuple[Path, CompareConfig, dict[str, Any]]:
    """The directory, the flags of the comparison, and those of `fixlm.train`."""
    given = vars(parser.parse_args(arguments))
    own = {field.name.replace("_", "-") for field in dataclasses.fields(CompareConfig)}
    flags = {flag: value for flag, value in given.items() if flag not in {"directory", "debug", *own}}
    for flag, value in flags.items():
        if isinstance(value, bool) and {f"--{flag}", f"--no-{flag}"} <= {*arguments}:
            flags[flag] = [True, False]
    return Path(given["directory"]), read_options(given, CompareConfig), flags


def __getattr__(name: str) -> Any:
    """`compare`, which brings torch with it, once it is asked for: ``--help`` answers without."""
    if name == "compare":
        from fixlm.comparison import comparison

        return comparison.compare
    raise AttributeError(name)


if __name__ == "__main__":
    sys.exit(run(command))
