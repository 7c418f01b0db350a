"""``python -m fixlm.generate RUN``: text that a trained run goes on with, word by word as it is drawn."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

from annotated_types import Ge, Le

from embeddings.options import Checked, Count, option
from fixlm.cli import run
from fixlm.config.command_line import Parser, add_options, read_options
from fixlm.errors import say
from fixlm.evaluation.sampling import Sampling

EPILOGUE = """\
examples:
  python -m fixlm.generate runs/sample-pmi-512-seed1 --prompt "the history of" --tokens 40
  python -m fixlm.generate runs/sample-pmi-512-seed1 --temperature 0.8 --top-p 0.95 --seed 3"""


@dataclasses.dataclass(frozen=True)
class GenerateConfig(Checked):
    """What to write."""

    prompt: str = option("", "words to go on from. Without them a paragraph begins")
    tokens: Count = option(100, "number of words, or pieces of words, to draw")
    unknown: bool = option(False, "allow <unk>, which stands for words that the vocabulary lacks")
    checkpoint: str = option("best", "which checkpoint: best, last or step-N")
    threads: Annotated[int, Ge(1), Le(1024)] | None = option(None, "number of torch's threads (none: chosen by torch)")


def command(arguments: list[str], program: str = "python -m fixlm.generate") -> None:
    """Parses, draws, prints."""
    parser = Parser(prog=program, description=__doc__.partition(": ")[2], epilog=EPILOGUE)
    parser.add_argument("run", metavar="RUN", help="a run directory")
    add_options(parser, GenerateConfig)
    add_options(parser, Sampling)
    given = vars(parser.parse_args(arguments))
    config, sampling = read_options(given, GenerateConfig), read_options(given, Sampling)
    import torch

    from fixlm.corpus.encoding import encode_text, with_counts
    from fixlm.evaluation.run import BLANKS, load

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trained = load(given["run"], config.checkpoint)
    text = trained.stream(config.prompt, config.tokens, unknown=config.unknown, **vars(sampling))
    if config.prompt.strip():
        unknown = encode_text(config.prompt, trained.vocabulary, trained.tokenizer).unknown
        if unknown:
            say(f"warning: the prompt has words that the model reads as <unk>: {with_counts(unknown)}")
    print(config.prompt.rstrip(BLANKS), end="", flush=True)
    for part in text:
        print(part, end="", flush=True)
    print()


if __name__ == "__main__":
    sys.exit(run(command))
