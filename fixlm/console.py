"""What a user sees while something runs: a rich bar on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from embeddings.registry import Progress

SECONDS_BETWEEN_LINES = 10.0
_listeners: list[Callable[[str], object]] = []


def log(message: str) -> None:
    """One line to stderr; stdout is kept for results."""
    print(message, file=sys.stderr, flush=True)
    _tell(message)


@contextmanager
def listening(listener: Callable[[str], object]) -> Iterator[None]:
    """Gives ``listener`` every line that `log` shows, and those of `progress` where a terminal has bars instead."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(message: str) -> None:
    for listener in _listeners:
        listener(message)


@contextmanager
def progress() -> Iterator[Progress]:
    """A function ``(what, done, total)`` that shows how far something is.

    ``what`` is a name, or a name and details: ``train | loss 5.1``. With a terminal each name has a bar; without one
    a line is printed when a name begins, when it ends, and every ten seconds.
    """
    if sys.stderr.isatty():
        with _bars() as show:
            yield _both(show, _Lines(_tell)) if _listeners else show
    else:
        yield _Lines(log)


@contextmanager
def embeddings_log() -> Iterator[None]:
    """Shows what the builders log, from INFO on."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log(("warning: " if record.levelno >= logging.WARNING else "") + record.getMessage())

    logger, handler = logging.getLogger("embeddings"), Handler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _both(one: Progress, other: Progress) -> Progress:
    def show(what: str, done: float, total: float) -> None:
        one(what, done, total)
        other(what, done, total)

    return show


class _Lines:
    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
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
        self.write(f"{what}: {done:,.0f}/{total:,.0f}{left}")


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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(10),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
    )
    tasks: dict[str, Any] = {}
    with Bars(*columns, TextColumn("{task.fields[details]}"), console=rich_console(stderr=True)) as bars:

        def show(what: str, done: float, total: float) -> None:
            name, _, details = what.partition(" | ")
            if name not in tasks:
                tasks[name] = bars.add_task(name, details=details)
            bars.update(tasks[name], details=details, completed=done, total=total)

        yield show
