"""What torchrun starts for each rank of a test: trains, and rank 1 sends SIGTERM to torchrun after a step.

torchrun … stop_torchrun.py STEP FLAGS OF fixlm.train

A rank tells at its end whether the process group is gone, whose threads could abort the process if it were not.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import weakref

import torch.distributed as dist

from fixlm import cli
from fixlm.training.trainer import Trainer

step, stop_at = Trainer._step, int(sys.argv[1])
groups: list[weakref.ref[dist.ProcessGroup]] = []


def step_and_stop(trainer: Trainer) -> None:
    step(trainer)
    if not groups:
        groups.append(weakref.ref(dist.group.WORLD))
    if (trainer.ranks.rank, trainer.at.step) == (1, stop_at):
        os.kill(os.getppid(), signal.SIGTERM)


def tell() -> None:
    line = f"the process group is {'gone' if groups[0]() is None else 'left'}\n"
    os.write(sys.stdout.fileno(), line.encode())  # one call, so that the lines of two ranks do not mix


if __name__ == "__main__":
    atexit.register(tell)  # before that of fixlm, which runs first
    Trainer._step = step_and_stop  # type: ignore[method-assign]
    sys.exit(cli.main(["train", *sys.argv[2:]]))
