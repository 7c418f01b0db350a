"""What a user sees while something runs: the log as plain lines, and a rich bar on a terminal. All of it on stderr.

Modules log by the standard `logging`. Commands show the log by `log_on_stderr`. In Python the log is the caller's to
show, for example by ``logging.basicConfig`` and ``logging.getLogger("fixlm").setLevel("INFO")``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from fixlm.errors import follows, say

if TYPE_CHECKING:
    from rich.console import Console

    from embeddings.registry import Progress

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
_LOGGERS = ("fixlm", "embeddings")


class _Lines(logging.Handler):
    """Gives a function each line of the log, as a user reads it: only warnings say what they are."""

    def __init__(self, write: Callable[[str], object]) -> None:
        super().__init__()
        self.write = write

    def emit(self, record: logging.LogRecord) -> None:
        self.write(("warning: " if record.levelno == logging.WARNING else "") + record.getMessage())


@contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[None]:
    """Has a handler get what this program logs, from INFO on."""
    loggers = map(logging.getLogger, _LOGGERS)
    # A command may call another one: then the handler is there already, and stays.
    before = [(each, each.level) for each in loggers if handler not in each.handlers]
    for each, _ in before:
        each.addHandler(handler)
        if not each.isEnabledFor(logging.INFO):
            each.setLevel(logging.INFO)
    try:
        yield
    finally:
        for each, level in before:
            each.removeHandler(handler)
            each.setLevel(level)


# Bars show what `progress` logs beside them.
_STDERR = _Lines(say)
_STDERR.addFilter(lambda record: not hasattr(record, "has_bar") and not follows())


def log_on_stderr() -> AbstractContextManager[None]:
    """Shows the log on stderr, as a command does; stdout is kept for results."""
    return _handled_by(_STDERR)


def listening(listener: Callable[[str], object], but: str = "") -> AbstractContextManager[None]:
    """Gives ``listener`` every line of the log, except those of the logger ``but``."""
    handler = _Lines(listener)
    handler.addFilter(lambda record: record.name != but)
    return _handled_by(handler)


@contextmanager
def progress() -> Iterator[Progress]:
    """A function ``(what, done, total)`` that shows how far something is.

    ``what`` is a name, or a name and details: ``train | loss 5.1``. A line is logged when a name begins, when it ends,
    and every ten seconds. On a terminal each name has a bar, and the lines are for other handlers of the log.
    """
    if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
        with _bars() as show:
            yield _both(show, _ProgressLines({"has_bar": True}))
    else:
        yield _ProgressLines()


def _both(one: Progress, other: Progress) -> Progress:
    def show(what: str, done: float, total: float) -> None:
        one(what, done, total)
        other(what, done, total)

    return show


class _ProgressLines:
    def __init__(self, extra: Mapping[str, object] | None = None) -> None:
        self.extra = extra
        self.name = ""
        self.printed = 0.0
        self.began = (0.0, 0.0)  # when this name came first, and what was done by then

    def __call__(self, what: str, done: float, total: float) -> None:
        name = what.partition(" | ")[0]
        now = time.monotonic()
        if name != self.name:
            self.name, self.began = name, (now, done)
        elif done < total and now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        rate = (done - self.began[1]) / max(now - self.began[0], 1e-9)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 and done < total else ""
        logger.info(f"{what}: {done:,.0f}/{total:,.0f}{left}", extra=self.extra)


def rich_console(**options: Any) -> Console:
    """A console of rich, for tables and bars; ``options`` are those of `rich.console.Console`.

    A reader that went away raises BrokenPipeError, as it does from `print`. Rich itself would end the program with
    status 1, which says that something failed.
    """
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return PipedConsole(**options)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    # The details come last and are short, so that a line fits 80 columns.
    columns = (TextColumn("{task.description}"), BarColumn(10), TaskProgressColumn(), TimeRemainingColumn(compact=True))
    tasks: dict[str, Any] = {}
    with Bars(*columns, TextColumn("{task.fields[details]}"), console=rich_console(stderr=True)) as bars:

        def show(what: str, done: float, total: float) -> None:
            name, _, details = what.partition(" | ")
            if name not in tasks:
                tasks[name] = bars.add_task(name, details=details)
            bars.update(tasks[name], details=details, completed=done, total=total)

        yield show
