"""``python -m fixlm.train``: train a language model and report its perplexity."""

from __future__ import annotations

import math
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from fixlm.cli import run
from fixlm.config.command_line import Parser
from fixlm.errors import follows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLACES = {"first": "used most", "ablation": "for ablations"}
"""Titles of the first and the last group in ``--help``."""
DESCRIPTIONS = {
    "used most": "The flags of most runs.",
    "data": "How the text is cut into words.",
    "model": "The network up to the output layer.",
    "output layer": "A flag belongs to some of the output layers. The others refuse it.",
    "optimization": "How the network is trained.",
    "run": "Where the run is trained and what is kept of it. These flags do not change the model.",
    "for ablations": "Details that a study changes one at a time.",
}

EPILOGUE = """\
examples:
  python -m fixlm.train --output-embed pmi --data sample
  python -m fixlm.train --output-embed tied --data wikitext-2 --hidden-size 256 --embed-size 256 --epochs 1
  python -m fixlm.train --run runs/sample-pmi-512-seed1 --resume

--preset awd (Merity, Keskar and Socher 2017, for WikiText-2) stands for
{awd}
--preset speedrun-100 (a race of docs/speedrun.md, for WikiText-2) stands for
{speedrun_100}
--preset speedrun-87 (another race of that page) stands for
{speedrun_87}
A flag that is given replaces the value of the preset. The last layer of awd has --embed-size units, and
--dropout sets its three rates."""


def command(arguments: list[str], program: str = "python -m fixlm.train") -> None:
    """Parses, trains, prints."""
    from fixlm.config.read import read_config

    given = vars(make_parser(program).parse_args(arguments))
    stored = None
    if given.get("resume"):  # brings torch with it, and a wrong flag is to be told at once
        from fixlm.runs.resume_check import flags_of_run

        stored = flags_of_run(given)
    config = read_config(given, stored)
    from fixlm.training.fit import train

    result = train(config, given)
    if not follows():
        print_result(result)


def make_parser(program: str = "python -m fixlm.train") -> Parser:
    """All flags, in the groups of the configuration; importing neither torch nor gensim."""
    from fixlm.config.presets import PRESETS, as_flags

    def shown(preset: str) -> str:
        indents = {"initial_indent": "  ", "subsequent_indent": "  "}
        return textwrap.fill(as_flags(preset), 78, **indents, break_on_hyphens=False)  # type: ignore[arg-type]

    parser = Parser(
        prog=program,
        usage=f"{program} [FLAGS]",
        description=__doc__.partition(": ")[2],
        epilog=EPILOGUE.format(**{name.replace("-", "_"): shown(name) for name in PRESETS if PRESETS[name]}),
    )
    add_flags(parser)
    return parser


def add_flags(parser: Parser, skip: Sequence[str] = ()) -> None:
    """Adds the flags of a training run: those that most people use first, those for ablations last."""
    from fixlm.config.read import flag_groups

    groups = flag_groups()
    shown: dict[str, list[Any]] = {title: [] for title in (PLACES["first"], *groups, PLACES["ablation"])}
    for title, flags in groups.items():
        for flag in flags:
            if flag.name not in skip:
                shown[PLACES.get(flag.place or "", title)].append(flag)
    for title, flags in shown.items():
        if flags:
            group = parser.add_argument_group(title, DESCRIPTIONS.get(title))
            for flag in flags:
                flag.add_to(group)


def print_result(result: Mapping[str, Any]) -> None:
    """The table a training run ends with."""
    from rich.table import Table

    from fixlm.console import rich_console

    per_word = "perplexity_per_word" in result["test"]
    key, unit = ("perplexity_per_word", "per word") if per_word else ("perplexity", f"per {result['corpus']['unit']}")
    print(f"{result['run']}: perplexity {unit}")
    table = Table("model")
    for split in ("valid", "test"):
        table.add_column(split, justify="right")
    rows = {f"unigram ({result['corpus']['unit']} frequencies alone)": result["unigram"], "this run": result}
    if mixed := result.get("with_ngrams"):
        rows[f"this run with {mixed['order']}-grams (λ {mixed['lambda']:g})"] = mixed
    for name, scores in rows.items():
        table.add_row(name, *(_number(scores[split][key]) for split in ("valid", "test")))
    rich_console().print(table)
    counts = result["parameters"]
    print(
        f"{counts['output_trainable']:,} of {counts['trainable']:,} trained parameters are in the output layer; "
        f"{result['tokens_per_second']:,.0f} tokens/s, {result['seconds']:,.0f} s of training steps."
    )


def _number(perplexity: float | None) -> str:
    from fixlm.evaluation.perplexity import in_digits

    return in_digits(math.inf if perplexity is None else perplexity)


if __name__ == "__main__":
    sys.exit(run(command))
