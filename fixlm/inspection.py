"""A finished run opened up: what `scripts/evaluate_perplexity.ipynb` shows of it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from fixlm import corpus
from fixlm.assembly import find_checkpoint, load_model
from fixlm.config import DataConfig
from fixlm.console import log, progress
from fixlm.corpus import Corpus
from fixlm.model import LanguageModel
from fixlm.run import RunDirectory, check_corpus


@dataclass(frozen=True, eq=False)
class Run:
    """A run with all that it takes to ask it something.

    Args:
        directory: its files.
        config: ``config.json`` as plain values.
        corpus: the text that it was trained on.
        model: as of the checkpoint that was asked for, not in training mode.
    """

    directory: RunDirectory
    config: dict[str, Any]
    corpus: Corpus
    model: LanguageModel

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.directory.path.resolve().name


def open_run(path: str | os.PathLike[str], checkpoint: str = "best", data: str | None = None) -> Run:
    """Reads a run, its corpus and its model.

    Args:
        path: the run directory.
        checkpoint: ``best``, ``last`` or ``step-N``.
        data: where the corpus is now, if it moved.

    Raises:
        InputError: the run, its checkpoint or its corpus is missing or not what it was.
    """
    directory = RunDirectory(path).require()
    config = directory.read_config()
    source = DataConfig(**config["data"])
    source = dataclasses.replace(source, data=data or source.data)
    if directory.tokenizer.exists():  # the run's own: nothing is trained again, and a file may have moved
        source = dataclasses.replace(source, tokenizer=str(directory.tokenizer), vocab_size=None)
    with progress() as show:
        text = corpus.load(**vars(source), log=log, progress=show)
    check_corpus(directory, text)
    model = load_model(directory, find_checkpoint(directory, checkpoint))
    return Run(directory, config, text, model.eval())
