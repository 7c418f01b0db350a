"""``python -m fixlm.evaluate RUN``: perplexity of a trained run, exact: one stream, every target once."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from fixlm.cli import run
from fixlm.options import Parser, add_options, option, read_options

if TYPE_CHECKING:
    from fixlm.perplexity import Score


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What to score."""

    split: str = option("test", "which split", choices=("valid", "test", "train"))
    checkpoint: str = option("best", "best, last or step-N")
    data: str | None = option(None, "where the run's corpus is now, if it moved (none: as in config.json)")
    threads: int | None = option(None, "threads of torch (none: its default)", minimum=1, maximum=1024)
    json: bool = option(False, "print one JSON object and nothing else")


def command(arguments: list[str], program: str = "python -m fixlm.evaluate") -> None:
    """Parses, scores, prints."""
    parser = Parser(prog=program, description=__doc__.partition(": ")[2])
    parser.add_argument("run", metavar="RUN", help="a run directory")
    add_options(parser, EvaluateConfig)
    given = vars(parser.parse_args(arguments))
    config = read_options(given, EvaluateConfig)
    score = evaluate_run(given["run"], config)
    if config.json:
        print(json.dumps({"split": config.split, **score.to_json()}))
    else:
        print(
            f"{given['run']}: {config.split} perplexity {score}, {score.nll:.4f} nats, {score.targets:,} targets"
        )


def evaluate_run(path: str, config: EvaluateConfig) -> Score:
    """Scores a split of the corpus that a run was trained on.

    Raises:
        InputError: the run, its checkpoint or its corpus is missing or not what it was.
    """
    import torch

    from fixlm import corpus
    from fixlm.assembly import find_checkpoint, load_model
    from fixlm.config import DataConfig
    from fixlm.console import log, progress
    from fixlm.perplexity import evaluate
    from fixlm.run import RunDirectory, check_corpus

    directory = RunDirectory(path).require()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = DataConfig(**directory.read_config()["data"])
    data = dataclasses.replace(data, data=config.data or data.data)
    if directory.tokenizer.exists():  # the run's own: nothing is trained again, and a file may have moved
        data = dataclasses.replace(data, tokenizer=str(directory.tokenizer), vocab_size=None)
    with progress() as show:
        text = corpus.load(**vars(data), log=log, progress=show)
    check_corpus(directory, text)
    model = load_model(directory, find_checkpoint(directory, config.checkpoint))
    with progress() as show:
        return evaluate(model, text, config.split, show)


def main() -> int:
    """Exit status of the entry point."""
    return run(command)


if __name__ == "__main__":
    sys.exit(main())
