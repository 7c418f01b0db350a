"""What torchrun starts for each rank of a test: trains, and rank 1 sends SIGTERM to torchrun after a step.

torchrun … stop_torchrun.py STEP FLAGS OF fixlm.train
"""

from __future__ import annotations

import os
import signal
import sys

from fixlm import cli
from fixlm.training.trainer import Trainer

step, stop_at = Trainer._step, int(sys.argv[1])


def step_and_stop(trainer: Trainer) -> None:
    step(trainer)
    if (trainer.ranks.rank, trainer.at.step) == (1, stop_at):
        os.kill(os.getppid(), signal.SIGTERM)


if __name__ == "__main__":
    Trainer._step = step_and_stop  # type: ignore[method-assign]
    sys.exit(cli.main(["train", *sys.argv[2:]]))
