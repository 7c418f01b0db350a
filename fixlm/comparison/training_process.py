"""A training run in a process of its own, for comparisons that train several at a time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fixlm

logger = logging.getLogger(__name__)

ERROR = "fixlm: error: "


class Process:
    """``python -m fixlm.train`` in a run directory; what it says is shown with the run's name in front.

    Args:
        index: what the caller knows it by.
        path: the run directory.
        flags: those of the run, without dashes.
        log: takes each line it says.
        resume: whether it goes on with the run that is there.
    """

    def __init__(
        self, index: int, path: Path, flags: Mapping[str, Any], log: Callable[[str], object], *, resume: bool
    ) -> None:
        self.index, self.path, self.log = index, path, log
        self.last, self.errors = "", list[str]()
        # The same package as this one, wherever it lies.
        where = os.pathsep.join(
            filter(None, [str(Path(fixlm.__file__).parents[1]), os.environ.get("PYTHONPATH")])
        )
        command = [sys.executable, "-m", "fixlm.train", *arguments(flags), f"--run={path}"]
        self._popen = subprocess.Popen(
            [*command, "--resume"] if resume else command,
            env={**os.environ, "PYTHONPATH": where},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C on the terminal reaches only the comparison, which passes it on once: a second signal would end
            # the training without saving.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            line = line.rstrip("\n")
            self.last = line or self.last
            if line.startswith(ERROR):
                self.errors.append(line.removeprefix(ERROR))
            try:
                self.log(line)
            except ValueError as error:  # a full disk: the training itself will say the same
                self.last = str(error)
            logger.info(f"{self.path.name}: {line}")

    def ended(self) -> bool:
        """Whether it is over, and all it said is in the log."""
        if self._popen.poll() is None:
            return False
        self._reader.join()
        assert self._popen.stderr is not None
        self._popen.stderr.close()
        return True

    @property
    def status(self) -> int:
        """Its exit status, once it has ended."""
        return self._popen.wait()

    def stop(self) -> None:
        """Asks it to save and stop."""
        if self._popen.poll() is None:
            self._popen.terminate()

    def reason(self) -> str:
        """Why it failed, in one line."""
        return "; ".join(self.errors) or f"ended with status {self.status}: {self.last or 'without a word'}"


def arguments(flags: Mapping[str, Any]) -> list[str]:
    """Flags as a command line has them: ``{"lr": "0.1", "normalize": False}`` → ``--lr=0.1 --no-normalize``."""
    return [
        (f"--{flag}" if value else f"--no-{flag}") if isinstance(value, bool) else f"--{flag}={value}"
        for flag, value in flags.items()
    ]
