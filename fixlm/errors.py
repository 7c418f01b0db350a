"""The exceptions a user can meet, and the one place that prints them."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable

from embeddings.errors import InputError, InputErrors, unknown_name

__all__ = ["Ended", "InputError", "InputErrors", "Interrupted", "RunsFailed", "WriteError", "unknown_name"]
__all__ += ["as_input_error", "report", "say"]

NO_MEMORY = re.compile(r"(can't|not enough|tried to) allocate|out of memory|Storage size calculation overflowed")


class WriteError(InputError):
    """A file of a run cannot be written: the disk is full, or the directory is not the user's."""


class Ended(Exception):
    """A command came to an end that is not its goal; ``status`` is its exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Interrupted(Ended):
    """A signal stopped the run after a step was saved; the status is 128 + signal."""


class RunsFailed(Ended):
    """Some runs of a comparison failed and the others are done."""


def launched_ranks() -> int:
    """How many processes torchrun started to train one model; 1 if it started none."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def follows() -> bool:
    """Whether this is one of several such processes and not rank 0, which speaks to the user for all of them."""
    return launched_ranks() > 1 and os.environ["RANK"] != "0"


def say(line: str) -> None:
    """A line on stderr. One that cannot be written, for a full disk or a reader that went away, ends nothing."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def report(command: Callable[[], None], *, debug: bool = False) -> int:
    """Runs a command and turns what it raises into the exit status and the lines a user reads.

    Returns:
        0, or 2 after bad input, 128 + signal after an interruption, 141 when the reader of a pipe went away.
    """
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` closed the pipe: the interpreter's own flush at exit must not complain about it again.
        _discard_stdout()
        return 141
    except Ended as stop:
        if not follows():
            say(f"fixlm: {stop}")
        return stop.status
    except KeyboardInterrupt:
        if not follows():
            say("fixlm: interrupted")
        return 130
    except Exception as error:
        known = as_input_error(error)
        if known is None:  # a fault of this program: its traceback is what helps
            raise
        if debug:
            traceback.print_exc()
        for line in [] if follows() else str(known).splitlines():
            say(f"fixlm: error: {line}")
        return 2
    return 0


def as_input_error(error: Exception) -> InputError | None:
    """What a user is told of an exception; None if that is no matter of the input or the machine."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, OSError):
        _discard_stdout()  # it may be what could not be written
        where = error.filename or "output"
        return InputError(where, "cannot be read or written", found=error.strerror or error)
    # torch has no exception of its own for the memory of a CPU.
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        fix = "lower the sizes (--hidden-size, --batch-size, --bptt, --output-dim, --walsh-rank)"
        return InputError("memory", "there is not enough of it", found=text.partition("\n")[0] or None, fix=fix)
    return None


def _discard_stdout() -> None:
    """Sends what is still to be written to nowhere, so that the flush at exit raises nothing more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
