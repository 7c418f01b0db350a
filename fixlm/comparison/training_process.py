"""A training run in a process of its own, for comparisons that train several at a time.

The process is this module too: ``python -m fixlm.comparison.training_process REQUEST``, REQUEST being JSON. What it
says on stderr is for people. Why it failed stands on its stdout as JSON, since a run that fails before it has a
directory has no ``status.json`` to say so.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fixlm
from embeddings.files import parse_json
from fixlm.config.read import read_config
from fixlm.console import log_on_stderr
from fixlm.errors import Ended, WriteError, report
from fixlm.runs.status import reason_of

logger = logging.getLogger(__name__)


class TrainingProcess:
    """A training run in a run directory; what it says is shown with the run's name in front.

    Args:
        index: the caller's number for the run.
        path: the run directory.
        flags: those of the run, without dashes.
        runs_at_a_time: how many runs share the machine.
        log: takes each line that the run says.
        resume: whether it goes on with the run that is there.
    """

    def __init__(
        self,
        index: int,
        path: Path,
        flags: Mapping[str, Any],
        runs_at_a_time: int,
        log: Callable[[str], object],
        *,
        resume: bool,
    ) -> None:
        self.index, self.path, self.log = index, path, log
        self.last = "without a word"
        self.reason: str | None = None  # why it failed, in one line; None if it did not live to say so
        request = {"flags": {**flags, "run": str(path), "resume": resume}, "runs_at_a_time": runs_at_a_time}
        # The same package as this one, wherever it lies.
        where = [str(Path(fixlm.__file__).parents[1]), os.environ.get("PYTHONPATH")]
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115, closed when the process has ended
        self._popen = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(request)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, where))},
            stdin=subprocess.DEVNULL,
            stdout=self._answer,
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
            with contextlib.suppress(WriteError):  # a full disk: the training itself will say the same
                self.log(line)
            logger.info(f"{self.path.name}: {line}")

    def ended(self) -> bool:
        """Whether it is over; then all it said is in the log, and `reason` tells why it failed."""
        if self._popen.poll() is None:
            return False
        self._reader.join()
        assert self._popen.stderr is not None
        self._popen.stderr.close()
        with self._answer, contextlib.suppress(ValueError):  # nothing or half an answer, after a kill
            self._answer.seek(0)
            self.reason = parse_json(self._answer.read()).get("reason")
        return True

    @property
    def status(self) -> int:
        """Its exit status, once it has ended."""
        return self._popen.wait()

    def stop(self) -> None:
        """Asks it to save and stop."""
        if self._popen.poll() is None:
            self._popen.terminate()


def train_here(request: Mapping[str, Any]) -> int:
    """Trains the run that a request describes, writes to stdout why it failed, and returns the exit status."""
    from fixlm.training.fit import train

    answer = {}

    def body() -> None:
        try:
            # Whatever a library prints is for people, too.
            with contextlib.redirect_stdout(sys.stderr):
                flags = request["flags"]
                train(read_config(flags), flags, runs_at_a_time=request["runs_at_a_time"])
        except Ended:
            raise
        except Exception as error:
            answer["reason"] = reason_of(error)
            raise

    try:
        with log_on_stderr():
            return report(body)
    finally:
        print(json.dumps(answer))


if __name__ == "__main__":
    sys.exit(train_here(json.loads(sys.argv[1])))
