"""What is written into a run directory, and how it is read again; `fixlm.runs.run_files` lists its files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.files import parse_json, write_atomically, write_json
from embeddings.readers.vocabulary import read_vocabulary
from fixlm.config.schema import AUTO, RUN_SETTINGS, DataConfig, RunConfig
from fixlm.config.train_config import TrainConfig, values_before
from fixlm.errors import InputError, WriteError
from fixlm.runs.result_file import checked_result
from fixlm.runs.run_files import RunFiles
from fixlm.runs.versions import versions

if TYPE_CHECKING:
    from embeddings.builder import Prepared
    from embeddings.cross_fit import FoldVectors
    from fixlm.corpus.corpus import Corpus


class RunDirectory(RunFiles):
    """A run on disk: what is written into its directory, and how it is read again."""

    def require(self) -> RunDirectory:
        """Itself, if a run lives there.

        Raises:
            InputError: the directory or its ``config.json`` is missing, or one of its files is a link.
        """
        if not self.path.is_dir():
            raise InputError(self.path, "there is no such run directory", fix="python -m fixlm.train makes one")
        if not self.config.is_file():
            raise InputError(self.path, "not a run directory", found="no config.json in it")
        for path in self.files:
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):  # a link may lead anywhere
                raise InputError(path, "not a file of a run", found="a link or a special file", expected="a file")
        return self

    def write_start(
        self,
        config: TrainConfig,
        corpus: Corpus,
        matrix: Prepared | None,
        folds: Mapping[str, FoldVectors] | None = None,
    ) -> None:
        """Writes everything that is known before the first step; ``config.json`` last, since it makes it a run."""
        described = {
            **config.to_json(),
            "run": {name: getattr(config.run, name) for name in RUN_SETTINGS},
            "corpus": corpus.description(),
            "output_matrix": None if matrix is None else matrix.recipe,
            "versions": versions(),
            "files": config.hashes_of_files(),
        }
        if config.cross_fitted():  # empty where the text was too short for them
            described["folds"] = {end: vectors.sha256 for end, vectors in (folds or {}).items()}
        with writing(self.path):
            write_atomically(self.vocabulary, "".join(f"{word}\n" for word in corpus.words).encode())
            if matrix is not None:
                matrix.save(self.output_matrix)
            if corpus.tokenizer_model is not None:
                write_atomically(self.tokenizer, corpus.tokenizer_model)
            write_json(self.config, described)

    def read_config(self) -> dict[str, Any]:
        """``config.json`` as plain values, each of them checked as a flag would be.

        Raises:
            InputError: it is no configuration; with every value that is wrong.
        """
        self.require()
        try:
            return checked_config(parse_json(self.config.read_bytes()))
        except InputError as error:
            raise error.inside(f"{self.config}: ") from None
        except OSError as error:
            raise InputError(self.config, "cannot be read", found=error.strerror) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(self.config, "not the configuration of a run", found=repr(error)) from None

    def read_result(self) -> dict[str, Any] | None:
        """``result.json`` as plain values; None if it is missing or not whole: a resumed run writes it again."""
        try:
            return checked_result(parse_json(self.result.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def source_of_text(self, data: DataConfig) -> DataConfig:
        """Where the run's text is, to be cut by its own tokenizer: it is not trained again, and its file may move.

        What ``auto`` stood for when the run began it stands for now, whatever can be had by then.
        """
        if data.data == AUTO:
            data = dataclasses.replace(data, data=self.read_config()["corpus"]["name"])
        if data.tokenizer == "word" or not self.tokenizer.exists():
            return data
        return dataclasses.replace(data, tokenizer=str(self.tokenizer), vocab_size=None)

    def words(self) -> list[str]:
        """The vocabulary in order of ids.

        Raises:
            InputError: it is not as long as the run's, or has a word twice.
        """
        words, size = read_vocabulary(self.vocabulary), self.read_config()["corpus"]["vocabulary_size"]
        if not len(words) == len({*words}) == size:
            what, fix = "not the vocabulary of this run", "copy it from where the run was trained"
            found = f"{len(words):,} lines, {len({*words}):,} different words"
            raise InputError(self.vocabulary, what, found=found, expected=f"{size:,} words", fix=fix)
        return words

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The records of ``metrics.jsonl``; a last line that was cut by a crash is passed over."""
        if self.metrics.is_file():
            for line in self.metrics.read_bytes().split(b"\n"):
                try:
                    record = parse_json(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    yield record

    def write_metrics(self, record: Mapping[str, Any]) -> None:
        """Adds a record to ``metrics.jsonl``."""
        with writing(self.metrics), open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Drops the records after a step: a resumed run writes them again."""
        kept = [json.dumps(record) + "\n" for record in self.read_metrics() if record["step"] <= step]
        with writing(self.metrics):
            write_atomically(self.metrics, "".join(kept).encode())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write a file of a run into an error that says how to go on."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            path, "cannot be written", found=error.strerror or error, fix="make room, then --resume"
        ) from error


def checked_config(values: dict[str, Any]) -> dict[str, Any]:
    """The values of ``config.json``, with the defaults of settings that are younger than the run.

    Raises:
        InputError: a value is one that no flag could have had.
        ValueError, KeyError, TypeError, AttributeError: the values are no configuration of a run.
    """
    values |= TrainConfig.from_json(values).to_json() | {"run": values_before(RunConfig) | values["run"]}
    _require_rest(values)
    return values


def _require_rest(values: Mapping[str, Any]) -> None:
    """Raises InputErrors, KeyError or TypeError unless the parts beside the `TrainConfig` are there too."""
    known = values["corpus"], *([] if values["output_matrix"] is None else [values["output_matrix"]])
    for part in known:
        if not isinstance(part["sha256"], str):
            raise TypeError("sha256 is no string")
    for name in ("folds", "files"):  # of a run with cross-fitting, and of one that is younger than this part
        hashes = values.get(name, {})
        if not isinstance(hashes, dict) or not all(isinstance(sha256, str) for sha256 in hashes.values()):
            raise TypeError(f"{name} are no hashes")
    if "export" in values and not isinstance(values["export"]["model_sha256"], str):
        raise TypeError("model_sha256 is no string")
    if not isinstance(values["corpus"]["vocabulary_size"], int):
        raise TypeError("vocabulary_size is no whole number")
    RunConfig(**{name: values["run"][name] for name in RUN_SETTINGS})
