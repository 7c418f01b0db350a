"""A run directory: what a training run leaves behind, and what is needed to read it again.

::

    config.json                   everything needed to repeat the run, with versions and hashes
    vocabulary.txt                one word a line, in order of ids
    output_matrix.safetensors     the fixed output matrix (walsh: each word's slot) with its recipe, if any
    tokenizer.model               the sentencepiece model, where there is one
    metrics.jsonl                 one JSON object a line: training and validation as they went
    status.json                   whether the training runs, was stopped, failed or is done: see `fixlm.runs.status`
    checkpoints/step-N/           see `fixlm.runs.checkpoint`
    result.json                   validation and test perplexity of the best checkpoint
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from embeddings.files import parse_json, write_atomically, write_json
from embeddings.readers.vocabulary import read_vocabulary
from fixlm.config.schema import RUN_SETTINGS, TrainConfig
from fixlm.errors import InputError, InputErrors
from fixlm.runs import checkpoint
from fixlm.runs.checked_json import checked_config, checked_result
from fixlm.runs.versions import versions

if TYPE_CHECKING:
    from embeddings.builder import Prepared
    from fixlm.corpus.corpus import Corpus

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What a file system without locks says. Two processes in one directory are then the user's to avoid."""


class RunDirectory:
    """The files of one run, by name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.vocabulary = self.path / "vocabulary.txt"
        self.output_matrix = self.path / "output_matrix.safetensors"
        self.tokenizer = self.path / "tokenizer.model"
        self.metrics = self.path / "metrics.jsonl"
        self.status = self.path / "status.json"
        self.checkpoints = self.path / "checkpoints"
        self.result = self.path / "result.json"
        self.lock = self.path / ".lock"  # there while a process trains in the directory

    def require(self) -> RunDirectory:
        """Itself, if a run lives there.

        Raises:
            InputError: the directory or its ``config.json`` is missing, or one of its files is a link.
        """
        if not self.path.is_dir():
            raise InputError(
                self.path, "there is no such run directory", fix="python -m fixlm.train makes one"
            )
        if not self.config.is_file():
            raise InputError(self.path, "not a run directory", found="no config.json in it")
        for path in (
            self.config,
            self.vocabulary,
            self.output_matrix,
            self.tokenizer,
            self.metrics,
            self.status,
            self.result,
        ):
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):  # a link may lead anywhere
                raise InputError(
                    path, "not a file of a run", found="a link or a special file", expected="a file"
                )
        return self

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the directory for a new run, proves that it can be written, and keeps other processes out.

        A run that could not start leaves no directory; one that was killed before its ``config.json`` was written
        left nothing of worth, and its directory is taken over.

        Raises:
            InputError: another run lives there, it is a file, it cannot be written, or another process has it.
        """
        where = f"--run {self.path}"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(where, "is a file", expected="a directory that is new or empty")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(where, error) from None
        try:
            with self.locked():
                if not self.is_free():
                    fix = "another --run"
                    if self.config.exists():
                        fix = "--resume to go on with it, or another --run"
                    raise InputError(where, "the directory is not empty", fix=fix)
                try:
                    self._clear()
                    self.checkpoints.mkdir()  # by which `_never_started` knows the directory again
                    yield
                except OSError as error:
                    raise _unwritable(where, error) from None
                finally:
                    if not self.config.exists():
                        self._clear()
        finally:
            with contextlib.suppress(OSError):  # it goes only if it is empty, so that no run is left
                self.path.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this directory; the system lifts the lock with the process.

        Raises:
            InputError: another process has it.
        """
        where = f"--run {self.path}"
        # Leftovers do no harm: only the system's lock counts, not the file that it is on.
        lock = FileLock(self.lock, blocking=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            fix = "wait for it to end, or choose another --run"
            raise InputError(where, "another process is training in this directory", fix=fix) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise _unwritable(where, error) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # while it is held, so that no one else's is removed
                self.lock.unlink()  # Windows refuses this, and `release` does it there
            lock.release()

    def sweep(self) -> None:
        """Removes temporary files that a killed process left."""
        for leftover in self.path.glob(".*.tmp"):
            checkpoint.remove(leftover)

    def _never_started(self) -> bool:
        """Whether there is only what a run writes before its ``config.json``, the mark of a run."""
        before = {
            path.name for path in (self.checkpoints, self.vocabulary, self.output_matrix, self.tokenizer)
        }
        inside = {"step-0", "last"}
        return (
            self.checkpoints.is_dir()
            and all(path.name in before or _is_temporary(path) for path in self._content())
            and all(path.name in inside or _is_temporary(path) for path in self.checkpoints.iterdir())
        )

    def is_free(self) -> bool:
        """Whether a new run may take the directory that is there: it is empty, or its run never started."""
        return self.path.is_dir() and (not self._content() or self._never_started())

    def _content(self) -> list[Path]:
        """All but the lock, which is there while the directory is asked about and may be left by a killed process."""
        return [path for path in self.path.iterdir() if path != self.lock]

    def _clear(self) -> None:
        for path in self._content():
            checkpoint.remove(path)

    def write_start(self, config: TrainConfig, corpus: Corpus, matrix: Prepared | None) -> None:
        """Writes everything that is known before the first step; ``config.json`` last, since it makes it a run."""
        with writing(self.path):
            self._write_start(config, corpus, matrix)

    def _write_start(self, config: TrainConfig, corpus: Corpus, matrix: Prepared | None) -> None:
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
                "corpus": corpus.description(),
                "output_matrix": None if matrix is None else matrix.recipe,
                "versions": versions(),
            },
        )

    def read_config(self) -> dict[str, Any]:
        """``config.json`` as plain values, each of them checked as a flag would be.

        Raises:
            InputError, InputErrors: it is no configuration; with every value that is wrong.
        """
        self.require()
        try:
            return checked_config(parse_json(self.config.read_bytes()))
        except (InputError, InputErrors) as error:
            raise self._in_config(error) from None
        except OSError as error:
            raise InputError(self.config, "cannot be read", found=error.strerror) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(self.config, "not the configuration of a run", found=repr(error)) from None

    def _in_config(self, error: InputError | InputErrors) -> InputErrors:
        return InputErrors(
            [each.at(f"{self.config}: {each.where}") for each in getattr(error, "errors", [error])]
        )

    def read_result(self) -> dict[str, Any] | None:
        """``result.json`` as plain values; None if it is missing or not whole: a resumed run writes it again."""
        try:
            return checked_result(parse_json(self.result.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def words(self) -> list[str]:
        """The vocabulary in order of ids."""
        return read_vocabulary(self.vocabulary)

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
        raise InputError(
            path, "cannot be written", found=error.strerror or error, fix="make room, then --resume"
        ) from error


def _unwritable(where: str, error: OSError) -> InputError:
    return InputError(where, "cannot be written", found=error.strerror, fix="choose another --run")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")
