"""Trains the runs of a comparison that are not done: one after another here, or several at a time in processes."""

import dataclasses
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixlm.comparison.find_runs import read_run
from fixlm.comparison.plan import PlannedRun
from fixlm.comparison.stored_run import DONE, FAILED, LOG, StoredRun
from fixlm.comparison.time_left import Work, in_words, measured, seconds_left, total_tokens
from fixlm.comparison.training_process import TrainingProcess
from fixlm.config.command_line import flag_name
from fixlm.config.schema import RUN_SETTINGS
from fixlm.console import listening
from fixlm.errors import InputError, Interrupted, WriteError, as_input_error
from fixlm.runs.directory import RunDirectory, writing
from fixlm.runs.run_files import BUSY
from fixlm.runs.status import Status, reason_of, write_status
from fixlm.training.signals import StopRequest

logger = logging.getLogger(__name__)

FIRST_ESTIMATE = 20.0
"""Seconds of a run before the time left is told from its own speed, where no other run told it."""
POLL = 0.1
"""Seconds between looks at the processes."""


class RunLog:
    """``log.txt`` of a run.

    Lines are held back until the run has its ``config.json``: up to then its directory has to be empty, and a run that
    could not start leaves none.
    """

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        self.held: list[str] = []

    def __call__(self, line: str) -> None:
        self.held.append(line)
        if self.directory.config.exists():
            log = self.directory.path / LOG
            with writing(log), open(log, "a", encoding="utf-8") as file:
                file.write("".join(f"{each}\n" for each in self.held))
            self.held = []


@dataclass
class Runner:
    """Trains the runs of a plan in their order.

    Args:
        planned: the runs.
        runs: what `survey` found of each.
        train_tokens: length of the train split by run directory, for the time left.
        jobs: how many runs are trained at a time.
    """

    planned: Sequence[PlannedRun]
    runs: list[StoredRun]
    train_tokens: Mapping[Path, int]
    jobs: int = 1
    told: bool = field(default=False, init=False)  # whether the time left was known when it was last shown

    def run(self) -> list[StoredRun]:
        """Trains what is left; `runs` is as it then stands, also after an exception.

        Raises:
            Interrupted: a signal came; what was under way is saved.
        """
        self._tell_what_lacks_ngrams()
        left = [index for index, run in enumerate(self.runs) if run.state != DONE]
        for index in left:  # one that failed before is tried again
            self.runs[index] = dataclasses.replace(self.runs[index], status=None)
        if not left:
            say(f"all {len(self.runs)} runs are done")
        elif self.jobs == 1:
            self._one_after_another(left)
        else:
            self._side_by_side(left)
        for index in left:  # what another process trained meanwhile is done as well
            if self.runs[index].state != DONE and RunDirectory(self.runs[index].path).result.is_file():
                self._read(index)
        return self.runs

    def _tell_what_lacks_ngrams(self) -> None:
        """A run that is done is not scored again, and the order of its n-grams is no part of what it is."""
        for planned, run in zip(self.planned, self.runs, strict=True):
            assert planned.config is not None
            order = planned.config.run.ngram_order
            if run.state == DONE and order not in (0, run.number("with_ngrams", "order")):
                how = f"python -m fixlm.evaluate {run.path} --ngram-order {order} --ngram-tune"
                say(f"{run.path.name} is done without these n-grams; {how} prints its scores with them")

    def time_left(self) -> str:
        """``about 2 h 10 min left``, from what the directories hold now."""
        done, left = [], []
        for planned, run in zip(self.planned, self.runs, strict=True):
            assert planned.config is not None
            work = measured(RunDirectory(run.path), planned.config, planned.setting.name)
            done.append(work)
            if run.state not in (DONE, FAILED):
                tokens = total_tokens(planned.config, self.train_tokens[run.path]) - work.tokens
                left.append(Work(work.setting, work.layer, max(tokens, 0)))
        seconds = seconds_left(left, done, self.jobs)
        self.told = seconds is not None
        return in_words(seconds)

    def _announce(self, index: int) -> None:
        done = sum(run.state == DONE for run in self.runs)
        verb = "going on with" if self._resumes(index) else "training"
        say(f"{done} of {len(self.runs)} runs done, {self.time_left()}; {verb} {self.runs[index].path.name}")

    def _resumes(self, index: int) -> bool:
        return RunDirectory(self.runs[index].path).config.is_file()

    def _read(self, index: int) -> None:
        """Takes what the directory now holds for the state of a run."""
        self.runs[index] = read_run(self.runs[index].path, self.runs[index].seed)

    def _failed(self, index: int, reason: str, log: Callable[[str], object], *, killed: bool = False) -> None:
        run = self.runs[index]
        if BUSY in reason:  # its log is the other's, and so is what becomes of it
            with suppress(InputError):  # there may be no config.json yet
                self._read(index)
            say(f"{run.path.name}: {BUSY}", logging.WARNING)
            return
        with suppress(WriteError):  # a full disk may be the very reason
            log(f"failed: {reason}")
        with suppress(InputError):  # or a damaged file
            if self._resumes(index):
                run = read_run(run.path, run.seed)
        status = Status("failed", reason, run.runs_at_a_time)
        if killed and self._resumes(index):  # the process itself had no time to write it
            write_status(RunDirectory(run.path).status, status)
        self.runs[index] = dataclasses.replace(run, status=status)
        say(f"{run.path.name} failed: {reason}", logging.ERROR)

    def _one_after_another(self, left: Sequence[int]) -> None:
        import torch

        threads = torch.get_num_threads()
        for index in left:
            torch.set_num_threads(threads)  # a run with --threads left its own
            self._announce(index)
            log = RunLog(self.runs[index].path)
            try:
                # What the comparison says of itself is for the terminal, and not for the run's log.
                with listening(log, but=__name__), listening(self._first_estimate()):
                    self._train_here(index)
            except Interrupted as stop:
                self._read(index)
                raise _interrupted(stop.status) from None
            except Exception as error:
                if as_input_error(error) is None:
                    traceback.print_exc()  # a fault of this program, which must not cost the other runs
                self._failed(index, reason_of(error), log)
            else:
                self._read(index)
                log(self._scores(index))

    def _train_here(self, index: int) -> None:
        from fixlm.training.fit import train

        planned = self.planned[index]
        assert planned.config is not None
        where = dataclasses.replace(planned.config.run, run=str(planned.path), resume=self._resumes(index))
        # The configuration was compared already; of a run that goes on only these may be new.
        train(dataclasses.replace(planned.config, run=where), run_settings(planned), runs_at_a_time=1)

    def _first_estimate(self) -> Callable[[str], None]:
        began = time.monotonic()

        def listen(line: str) -> None:
            if not self.told and line.startswith("train") and time.monotonic() - began > FIRST_ESTIMATE:
                say(self.time_left())

        return listen

    def _side_by_side(self, left: Sequence[int]) -> None:
        waiting = list(left)
        going: list[TrainingProcess] = []
        with StopRequest() as stop:
            stopping = False
            try:
                while going or (waiting and not stop.signal_number):
                    while waiting and len(going) < self.jobs and not stop.signal_number:
                        self._announce(waiting[0])
                        going.append(self._start(waiting.pop(0)))
                    if stop.signal_number and not stopping:
                        stopping = True
                        for process in going:
                            process.stop()
                    for process in [process for process in going if process.ended()]:
                        going.remove(process)
                        self._finish(process, stopping)
                    time.sleep(POLL)
            finally:
                for process in going:
                    process.stop()
            if stop.signal_number:
                raise _interrupted(128 + stop.signal_number)

    def _start(self, index: int) -> TrainingProcess:
        planned, resumes = self.planned[index], self._resumes(index)
        flags = dict(run_settings(planned) if resumes else planned.flags)
        flags.setdefault("threads", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        log = RunLog(planned.path)
        return TrainingProcess(index, planned.path, flags, self.jobs, log, resume=resumes)

    def _finish(self, process: TrainingProcess, stopping: bool) -> None:
        status = process.status
        if status == 0:
            self._read(process.index)
            process.log(self._scores(process.index))
        elif stopping and status in (128 + signal.SIGTERM, -signal.SIGTERM):
            if self._resumes(process.index):
                self._read(process.index)
        else:
            reason = process.reason or f"ended with status {status}: {process.last}"
            self._failed(process.index, reason, process.log, killed=process.reason is None)

    def _scores(self, index: int) -> str:
        run = self.runs[index]
        if run.result is None:
            raise InputError(run.path, "the run ended and left no result")
        scores = ", ".join(f"{split} {run.perplexity(split):,.2f}" for split in ("valid", "test"))
        say(f"{run.path.name} is done: perplexity {scores}")
        return f"perplexity: {scores}"


def run_settings(planned: PlannedRun) -> dict[str, Any]:
    """The flags that a run may change when it goes on; one of them is where its text lies."""
    names = {flag_name(name).removeprefix("--") for name in ("data", *RUN_SETTINGS)}
    return {flag: value for flag, value in planned.flags.items() if flag in names}


def say(message: str, level: int = logging.INFO) -> None:
    """A line about the comparison, which is in no run's log."""
    logger.log(level, f"compare: {message}")


def _interrupted(status: int) -> Interrupted:
    return Interrupted("stopped, and what was trained is saved; the same command goes on from here", status)
