"""A run read back: its text and its model, ready to be asked something."""

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from fixlm.config.schema import DataConfig
from fixlm.console import progress
from fixlm.corpus import corpus
from fixlm.corpus.corpus import Corpus
from fixlm.corpus.registry import is_there
from fixlm.errors import InputError
from fixlm.model.language_model import LanguageModel
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import find_checkpoint, load_model
from fixlm.runs.resume_check import check_corpus


@dataclass(frozen=True, eq=False)
class OpenedRun:
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


def open_run(path: str | os.PathLike[str], checkpoint: str = "best", data: str | None = None) -> OpenedRun:
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
    if not data and not is_there(source.data):
        what = f"it names the corpus {source.data}, which is not there"
        fix = "name the folder that has the corpus now: --data FOLDER"
        raise InputError(directory.config, what, fix=fix)
    source = dataclasses.replace(source, data=data or source.data)
    if directory.tokenizer.exists():  # the run's own: nothing is trained again, and a file may have moved
        source = dataclasses.replace(source, tokenizer=str(directory.tokenizer), vocab_size=None)
    with progress() as show:
        text = corpus.load(**vars(source), progress=show)
    check_corpus(directory, text)
    model = load_model(directory, find_checkpoint(directory, checkpoint))
    return OpenedRun(directory, config, text, model.eval())
