"""The exceptions a user can meet, and the one place that prints them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from embeddings.errors import InputError, unknown_name

__all__ = ["InputError", "InputErrors", "Interrupted", "report", "unknown_name"]


class InputErrors(ValueError):
    """Several things are wrong at once; each is reported on a line of its own."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = list(errors)

    @staticmethod
    def raise_if_any(errors: Sequence[InputError]) -> None:
        """Raises the one error as it is, several together, and nothing for none."""
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise InputErrors(errors)


class Interrupted(Exception):
    """A signal stopped the run after a step was saved; ``status`` is the exit status, 128 + signal."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def report(command: Callable[[], None], *, debug: bool = False) -> int:
    """Runs a command and turns what it raises into the exit status and the lines a user reads.

    Returns:
        0, or 2 after bad input, 128 + signal after an interruption, 141 when the reader of a pipe went away.
    """
    try:
        command()
        sys.stdout.flush()
    except (InputError, InputErrors) as error:
        if debug:
            traceback.print_exc()
        for line in str(error).splitlines():
            print(f"fixlm: error: {line}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"fixlm: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("fixlm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `| head` closed the pipe: the interpreter's own flush at exit must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
