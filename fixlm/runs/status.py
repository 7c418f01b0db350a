"""``status.json`` of a run directory: how its training stands, written by the process that trains and read by others.

A status tells what no other file tells: why a run failed, and how many runs shared the machine. Whether a run is done
is decided by ``result.json``, so a status that is missing or damaged costs a reason and never a run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from embeddings.files import parse_json, write_atomically
from fixlm.errors import Ended, Interrupted, as_input_error


@dataclass(frozen=True)
class Status:
    """How the training of a run stands.

    Args:
        state: ``running`` also stands there after a kill, which leaves no time to write another state.
        reason: why the run failed, in one line; empty in other states.
        runs_at_a_time: how many runs `fixlm.compare` trained side by side while this run was trained, at most; None if
            it is not known.
    """

    state: Literal["running", "stopped", "failed", "done"]
    reason: str = ""
    runs_at_a_time: PositiveInt | None = None


_VALUES = TypeAdapter(Status)


def parse_status(values: object) -> Status | None:
    """The status in plain values, whose further keys are passed over; None if they are no status."""
    try:
        return _VALUES.validate_python(values)
    except ValidationError:
        return None


def read_status(path: Path) -> Status | None:
    """The status in a file; None if the file is missing or damaged."""
    try:
        return parse_status(parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return None


def write_status(path: Path, status: Status) -> None:
    """Writes the status whole or not at all. A full disk must not end a training because of its status."""
    with suppress(OSError):
        write_atomically(path, _VALUES.dump_json(status, indent=2) + b"\n")


@contextmanager
def recorded(path: Path, runs_at_a_time: int | None = None) -> Iterator[Callable[[], None]]:
    """Keeps the status of a run while it is trained: ``running``, and then what it came to.

    The status is not written before there is a run: the directory has to stay free for another run until then.

    Args:
        path: of ``status.json``, beside the ``config.json`` that makes the directory a run.
        runs_at_a_time: as in `Status`; a run that goes on keeps the largest number.

    Yields:
        The function to call once the run has its directory and begins to train.
    """
    before = read_status(path)
    numbers = [number for number in (runs_at_a_time, before and before.runs_at_a_time) if number]

    def write(state: Literal["running", "stopped", "failed", "done"], reason: str = "") -> None:
        if (path.parent / "config.json").is_file():
            write_status(path, Status(state, reason, max(numbers, default=None)))

    try:
        yield lambda: write("running")
    except (Interrupted, KeyboardInterrupt):
        write("stopped")
        raise
    except Exception as error:
        write("failed", reason_of(error))
        raise
    write("done")


def reason_of(error: Exception) -> str:
    """Why a run failed, in one line; what is a fault of the program begins with the name of its exception."""
    known = as_input_error(error)
    name = "" if known or isinstance(error, Ended) else f"{type(error).__name__}: "
    line = name + "; ".join(str(known or error).splitlines())
    return line.encode(errors="replace").decode()  # the name of a file may hold bytes that are no UTF-8
