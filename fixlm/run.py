"""A run directory: what a training run leaves behind, and what is needed to read it again.

::

    config.json                   everything needed to repeat the run, with versions and hashes
    vocabulary.txt                one word a line, in order of ids
    output_matrix.safetensors     the fixed output matrix (walsh: each word's slot) with its recipe, if any
    tokenizer.model               the sentencepiece model, where there is one
    metrics.jsonl                 one JSON object a line: training and validation as they went
    checkpoints/step-N/           see `fixlm.checkpoint`
    result.json                   validation and test perplexity of the best checkpoint
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embeddings.codebook import Codebook
from embeddings.output_matrix import OutputMatrix, write_atomically
from fixlm import __version__
from fixlm.config import RunConfig, TrainConfig
from fixlm.corpus import Corpus
from fixlm.errors import InputError, InputErrors
from fixlm.options import flag_name

LIBRARIES = ("torch", "numpy", "scipy", "gensim", "datasets", "sentencepiece", "safetensors")


class RunDirectory:
    """The files of one run, by name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.vocabulary = self.path / "vocabulary.txt"
        self.output_matrix = self.path / "output_matrix.safetensors"
        self.tokenizer = self.path / "tokenizer.model"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.result = self.path / "result.json"

    def require(self) -> RunDirectory:
        """Itself, if a run lives there.

        Raises:
            InputError: the directory or its ``config.json`` is missing.
        """
        if not self.path.is_dir():
            raise InputError(
                self.path, "there is no such run directory", fix="python -m fixlm.train makes one"
            )
        if not self.config.is_file():
            raise InputError(self.path, "not a run directory", found="no config.json in it")
        return self

    def claim(self) -> None:
        """Makes the directory for a new run and proves that it can be written, before any work is done.

        Raises:
            InputError: another run lives there, it is a file, or it cannot be written.
        """
        where = f"--run {self.path}"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(where, "is a file", expected="a directory that is new or empty")
        if self.path.is_dir() and any(self.path.iterdir()):
            fix = "--resume to go on with it, or another --run"
            raise InputError(where, "the directory is not empty", fix=fix)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config, b"")
            self.config.unlink()
        except OSError as error:
            raise InputError(
                where, "cannot be written", found=error.strerror, fix="choose another --run"
            ) from None

    def release(self) -> None:
        """Undoes `claim` if nothing was written: a run that could not start leaves no empty directory."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def write_start(
        self, config: TrainConfig, corpus: Corpus, matrix: OutputMatrix | Codebook | None
    ) -> None:
        """Writes everything that is known before the first step; ``config.json`` last, since it makes it a run."""
        write_atomically(self.vocabulary, "".join(f"{word}\n" for word in corpus.words).encode())
        if matrix is not None:
            matrix.save(self.output_matrix)
        if corpus.tokenizer_model is not None:
            write_atomically(self.tokenizer, corpus.tokenizer_model)
        kept = {name: getattr(config.run, name) for name in RUN_SETTINGS}
        write_json(
            self.config,
            {
                **config.to_json(),
                "run": kept,
                "corpus": describe_corpus(corpus),
                "output_matrix": None if matrix is None else matrix.recipe,
                "versions": versions(),
            },
        )

    def read_config(self) -> dict[str, Any]:
        """``config.json`` as plain values."""
        try:
            values = json.loads(self.require().config.read_text())
            TrainConfig.from_json(values)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(self.config, "not the configuration of a run", found=repr(error)) from None
        return values

    def words(self) -> list[str]:
        """The vocabulary in order of ids."""
        return self.vocabulary.read_text(encoding="utf-8").split("\n")[:-1]

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The records of ``metrics.jsonl``; a last line that was cut by a crash is passed over."""
        if self.metrics.exists():
            for line in self.metrics.read_text().split("\n"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def rewind_metrics(self, step: int) -> None:
        """Drops the records after a step: a resumed run writes them again."""
        kept = [json.dumps(record) + "\n" for record in self.read_metrics() if record["step"] <= step]
        write_atomically(self.metrics, "".join(kept).encode())


RUN_SETTINGS = ("validate_every", "checkpoint_every", "threads", "device")
"""Of `RunConfig`, what a resumed run takes over unless told otherwise."""


def default_path(config: TrainConfig, corpus_name: str) -> Path:
    """``runs/DATA-LAYER-SIZE-seedSEED``."""
    layer = Path(config.model.output_embed).name
    return Path("runs") / f"{corpus_name}-{layer}-{config.model.hidden_size}-seed{config.optimization.seed}"


def resumed_config(run: RunDirectory, given: Mapping[str, Any], config: TrainConfig) -> TrainConfig:
    """The stored configuration, with this command's run settings.

    Args:
        given: the flags of this command, by name without dashes.
        config: what they describe.

    Raises:
        InputErrors: one for each flag that was given and differs from what the run was started with.
    """
    stored = run.read_config()
    errors = []
    asked = config.to_json()
    for group in ("data", "model", "optimization"):
        for name, now in asked[group].items():
            before = stored[group][name]
            if flag_name(name).removeprefix("--") in given and now != before:
                errors.append(_difference(flag_name(name), now, before))
    for method, options in asked["matrices"].items():
        for name, now in options.items():
            before = stored["matrices"].get(method, {}).get(name)
            if flag_name(name, method).removeprefix("--") in given and now != before:
                errors.append(_difference(flag_name(name, method), now, before))
    InputErrors.raise_if_any(errors)
    settings = {
        name: getattr(config.run, name)
        if flag_name(name).removeprefix("--") in given
        else stored["run"][name]
        for name in RUN_SETTINGS
    }
    return TrainConfig.from_json(stored, RunConfig(run=str(run.path), resume=True, **settings))


def check_corpus(run: RunDirectory, corpus: Corpus) -> None:
    """Raises InputError if the corpus is not the one that the run was trained on."""
    before = run.read_config()["corpus"]["sha256"]
    if corpus.sha256 != before:
        raise InputError(
            "--data", "not the corpus of this run", found=corpus.sha256[:12], expected=before[:12]
        )


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """What identifies the text of a run."""
    return {
        "name": corpus.name,
        "sha256": corpus.sha256,
        "unit": corpus.unit,
        "vocabulary_size": len(corpus.words),
        "tokens": {split: len(ids) for split, ids in corpus.splits.items()},
    }


def versions() -> dict[str, str]:
    """Of this program, Python, the libraries, and the kind of processor."""
    found = {library: version(library) for library in LIBRARIES}
    return {"fixlm": __version__, "python": platform.python_version(), "machine": platform.machine(), **found}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Plain values as readable JSON, whole or not at all; refuses NaN and infinity."""
    write_atomically(
        path, (json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
    )


def _difference(flag: str, now: object, before: object) -> InputError:
    fix = "drop the flag, or start another run"
    return InputError(flag, "differs from the run to resume", found=now, expected=before, fix=fix)
