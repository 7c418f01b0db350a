"""``python -m fixlm.score RUN FILE``: how surprising each word of a text is to a trained run."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embeddings.options import Checked, option
from fixlm.cli import run
from fixlm.config.command_line import Parser, add_options, read_options
from fixlm.errors import InputError

if TYPE_CHECKING:
    from fixlm.evaluation.run import TextScore

SURE, LOST = 1.0, 10.0
"""Nats of a word that is shown without colour, and of one in full red."""


@dataclasses.dataclass(frozen=True)
class ScoreConfig(Checked):
    """How to show it."""

    json: bool = option(False, "print one JSON object: words, nats of each, unknown words and the perplexity")
    checkpoint: str = option("best", "which checkpoint: best, last or step-N")


def command(arguments: list[str], program: str = "python -m fixlm.score") -> None:
    """Parses, scores, prints."""
    parser = Parser(prog=program, description=__doc__.partition(": ")[2])
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("file", metavar="FILE", help="a text file in UTF-8, or - for standard input")
    add_options(parser, ScoreConfig)
    given = vars(parser.parse_args(arguments))
    config = read_options(given, ScoreConfig)
    text = read_text(given["file"])
    from fixlm.evaluation.run import load

    score = load(given["run"], config.checkpoint).score(text)
    if config.json:
        print(json.dumps(score.to_json(), ensure_ascii=False))
    else:
        show(score)


def read_text(file: str) -> str:
    """The text of a file, or of standard input for ``-``.

    Raises:
        InputError: it is not UTF-8.
        OSError: it cannot be read.
    """
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"0x{content[error.start]:02x} at byte {error.start}"
        raise InputError(file, "not UTF-8", found=found, fix="convert the file to UTF-8") from None


def show(score: TextScore) -> None:
    """The text with each word the redder the more surprising it was, then the sums."""
    from rich.text import Text

    from fixlm.console import rich_console

    shown = Text()
    for word, nats in zip(score.words, score.nats.tolist(), strict=True):
        part = min(max((nats - SURE) / (LOST - SURE), 0.0), 1.0)
        faded = round(255 * (1 - part))
        shown.append("¶\n" if word == "<eos>" else word + " ", style=f"black on rgb(255,{faded},{faded})")
    rich_console().print(shown)
    print(f"{score}; {score.nats.mean():.3f} nats ({score.nats.mean() / math.log(2):.3f} bits) a word")


if __name__ == "__main__":
    sys.exit(run(command))
