"""The files of a run directory by name, and which process may write them.

::

    config.json                   everything needed to repeat the run, with versions and hashes
    vocabulary.txt                one word a line, in order of ids
    output_matrix.safetensors     the fixed output matrix (walsh: each word's slot) with its recipe, if any
    output_folds.safetensors      with --cross-fit, until the run is done: the vectors counted without each fold
    input_folds.safetensors       the same for the input embedding, where they are not those of the output
    tokenizer.model               the sentencepiece model, where there is one
    metrics.jsonl                 one JSON object a line: training and validation as they went
    status.json                   whether the training runs, was stopped, failed or is done: see `fixlm.runs.status`
    checkpoints/step-N/           see `fixlm.runs.checkpoint`
    result.json                   validation and test perplexity of the best checkpoint
    model.safetensors             only in a run that was exported, in place of ``checkpoints/``: see `fixlm.runs.export`
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fixlm.errors import InputError, WriteError
from fixlm.runs import checkpoint

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What a file system without locks says. Two processes in one directory are then the user's to avoid."""

BUSY = "another process is training in this directory"
"""What the error of `RunFiles.locked` says."""


class RunFiles:
    """The files of one run, by name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.expanduser(path))  # a shell leaves the ~ of --run=~/a as it is
        self.config = self.path / "config.json"
        self.vocabulary = self.path / "vocabulary.txt"
        self.output_matrix = self.path / "output_matrix.safetensors"
        self.folds = {end: self.path / f"{end}_folds.safetensors" for end in ("output", "input")}
        self.tokenizer = self.path / "tokenizer.model"
        self.metrics = self.path / "metrics.jsonl"
        self.status = self.path / "status.json"
        self.result = self.path / "result.json"
        self.model = self.path / checkpoint.MODEL
        # Those that a reader opens, and that a link must not stand for.
        self.files = [self.config, self.vocabulary, self.output_matrix, self.tokenizer]
        self.files += [self.metrics, self.status, self.result, self.model, *self.folds.values()]
        self.checkpoints = self.path / "checkpoints"
        self.lock = self.path / ".lock"  # there while a process trains in the directory

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the directory for a new run, proves that it can be written, and keeps other processes out.

        A run that could not start leaves no directory; one that was killed before its ``config.json`` was written
        left nothing of worth, and its directory is taken over.

        Raises:
            InputError: another run lives there, it is a file, or another process has it.
            WriteError: it cannot be written.
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
                    try:
                        self._clear()
                        self.checkpoints.mkdir()  # by which `_never_started` knows the directory again
                    except OSError as error:
                        raise _unwritable(where, error) from None
                    yield
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
            raise InputError(where, BUSY, fix=fix) from None
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
        before = {self.vocabulary, self.output_matrix, self.tokenizer, *self.folds.values()}
        inside = {"step-0", "last"}
        others = {path for path in self._content() if path != self.checkpoints and not _is_temporary(path)}
        return (
            self.checkpoints.is_dir()
            and others <= before
            and all(path.name in inside or _is_temporary(path) for path in self.checkpoints.iterdir())
            # A run has its first checkpoint before these files: without it they are someone else's.
            and (not others or (self.checkpoints / "step-0").is_dir())
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


def _unwritable(where: str, error: OSError) -> WriteError:
    return WriteError(where, "cannot be written", found=error.strerror, fix="choose another --run")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")
