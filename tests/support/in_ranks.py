"""Trains in several ranks, without torchrun, which would import everything again for each of them.

python in_ranks.py TASKS.json: a list of objects with ``ranks``, ``arguments`` and perhaps ``interrupt`` (a rank, the
step after which it gets a signal, and the name of that). Metrics have the loss of every step. Prints a list with a list
of [status, standard error] for each rank.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch._dynamo  # which DistributedDataParallel imports

from fixlm import cli
from fixlm.training import trainer as training
from fixlm.training.trainer import Trainer

__all__ = ["torch"]


def as_rank(rank: int, port: int, task: dict[str, Any], told: Path) -> None:
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(task["ranks"]), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    step = Trainer._step

    def step_and_interrupt(trainer: Trainer) -> None:
        step(trainer)
        at_rank, at_step, name = task.get("interrupt") or (None, None, "")
        if (rank, trainer.at.step) == (at_rank, at_step):
            os.kill(os.getpid(), signal.Signals[name])

    Trainer._step = step_and_interrupt  # type: ignore[method-assign]
    training.METRICS_EVERY = 1
    arguments = [word.replace("RANK", str(rank)) for word in task["arguments"]]
    with open(told, "w") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        status = cli.main(arguments)
    sys.exit(status)


def run(task: dict[str, Any], folder: Path) -> list[tuple[int | None, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    told = [folder / str(rank) for rank in range(task["ranks"])]
    processes = [context.Process(target=as_rank, args=(rank, port, task, told[rank])) for rank in range(task["ranks"])]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()  # nothing happens if it has ended
        process.join()
    return [(process.exitcode, file.read_text()) for process, file in zip(processes, told, strict=True)]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tasks = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as place:
        with contextlib.redirect_stdout(sys.stderr):  # everything is imported before the processes part
            cli.main([*tasks[0]["arguments"], "--run", f"{place}/first", "--max-steps", "1"])
        print(json.dumps([run(task, Path(place)) for task in tasks]))
