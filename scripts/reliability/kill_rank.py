"""Kills one of several ranks with SIGKILL again and again, resumes the run, and compares it with a run left alone.

python scripts/reliability/kill_rank.py --kills 20

torchrun starts this program once more for each rank. A rank kills itself in a step that is drawn from the seed, at one
of the function calls from there on, which is drawn too: in a forward pass, a sum over the ranks, a save.
"""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from kill_test import digest, require_end, run_after_run

from embeddings.files import write_json
from embeddings.options import Checked, Count, Natural, option
from fixlm import cli, console
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError
from fixlm.runs import checkpoint
from fixlm.runs.versions import versions

STEPS = 30
FLAGS = (
    f"--hidden-size 8 --embed-size 8 --batch-size 12 --bptt 8 --max-steps {STEPS} --validate-every 10 "
    "--checkpoint-every 3 --threads 1"
)
MOST_CALLS = 5000
"""Function calls between the beginning of the step and the kill, at most: some two steps and a save."""
LIMIT = 120
"""Seconds until torchrun has to have ended. Importing everything takes most of them on a busy machine."""


@dataclass(frozen=True)
class Settings(Checked):
    """What to kill and how often."""

    kills: Count = option(20, "how many times to kill a rank")
    ranks: Count = option(2, "number of ranks")
    seed: Natural = option(1, "ranks and moments come from it")
    layers: str = option("hadamard,tied,learned,pmi", "output layers, which the runs have in turn")
    out: str | None = option(None, "a JSON file for the figures")


@dataclass
class Found:
    """What came of it."""

    kills: int = 0
    kills_of_rank_0: int = 0
    kills_during_a_save: int = 0
    runs: int = 0
    longest_end_seconds: float = 0.0  # from a kill until all ranks and torchrun had ended
    seconds: float = 0.0


def command(arguments: list[str]) -> None:
    """Parses, kills, prints."""
    settings = read_command_line(arguments, Settings, __doc__)
    with tempfile.TemporaryDirectory() as folder, console.progress() as show:
        os.environ["FIXLM_CACHE"] = f"{folder}/cache"
        found = kill_and_resume(settings, Path(folder), show)
    print(
        f"{found.kills} kills in {found.runs} runs and {found.seconds:.0f} s ({found.kills_of_rank_0} of rank 0, "
        f"{found.kills_during_a_save} during a save): the other ranks ended within {found.longest_end_seconds:.1f} s, "
        "and every run ended as the one left alone, bit for bit."
    )
    if settings.out:
        figures = dataclasses.asdict(settings) | dataclasses.asdict(found) | {"versions": versions()}
        del figures["out"]
        write_json(Path(settings.out), figures)


def kill_and_resume(settings: Settings, folder: Path, show: Any) -> Found:
    """Runs, each killed and resumed until it ends, until there were enough kills."""
    draw, found = random.Random(settings.seed), Found()
    alone: dict[str, str] = {}
    for layer, flags, path in run_after_run(settings, found, FLAGS, folder):
        if layer not in alone:
            train(flags, folder / f"alone-{layer}", settings.ranks)
            alone[layer] = digest(folder / f"alone-{layer}")
        _one_run(flags, path, draw, settings, found, show)
        require_end(path, alone[layer], layer)
    return found


def _one_run(flags: list[str], path: Path, draw: random.Random, settings: Settings, found: Found, show: Any) -> None:
    """Starts a run, kills and resumes it until it ends; it is left alone once there were enough kills."""
    done = 0
    while found.kills < settings.kills:
        rank = draw.randrange(settings.ranks)
        moment = f"{rank} {draw.randint(min(done + 1, STEPS), STEPS)} {draw.randint(1, MOST_CALLS)}"
        after = train(flags, path, settings.ranks, moment)
        if after is None:  # the run ended before the moment came
            return
        flags = ["--resume"]  # a run is saved before its first step
        found.kills += 1
        found.kills_of_rank_0 += rank == 0
        found.kills_during_a_save += any((path / "checkpoints").glob(".step-*"))
        found.longest_end_seconds = max(found.longest_end_seconds, round(after, 1))
        show("kills", found.kills, settings.kills)
        saved = checkpoint.newest(path / "checkpoints")
        done = saved.state()["step"] if saved else 0
    train(flags, path, settings.ranks)


def train(flags: list[str], path: Path, ranks: int, moment: str = "") -> float | None:
    """Trains by torchrun; the seconds from the kill until everything had ended, None if no rank was killed.

    Args:
        moment: the rank to be killed, the step, and the number of the function call from there on.

    Raises:
        InputError: it took too long, left a process behind, or ended in any other way.
    """
    notes = path.with_suffix(".notes")
    notes.unlink(missing_ok=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    environment = os.environ | {"KILL_RANK_MOMENT": moment, "KILL_RANK_NOTES": str(notes)}
    with open(path.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(
            [*torchrun, "--", __file__, "train", *flags, "--run", str(path)], env=environment, stdout=log, stderr=log
        )
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise InputError(path.name, "hangs", found=f"not ended after {LIMIT} s", fix=f"see {log.name}") from None
    ended = time.time()
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    left = [line["pid"] for line in lines if _lives(line["pid"])]
    killed = [line["killed"] for line in lines if "killed" in line]
    if left or (status == 0) == bool(killed):
        text = path.with_suffix(".log").read_text()
        raise InputError(path.name, "ended otherwise", found=f"status {status}, processes left {left}: {text}")
    return ended - killed[0] if killed else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def as_rank(arguments: list[str]) -> int:
    """What torchrun starts: trains, and kills itself if this is the rank and the moment."""
    from fixlm.training.trainer import Trainer

    def note(**more: float) -> None:
        with open(os.environ["KILL_RANK_NOTES"], "a") as file:
            file.write(json.dumps({"pid": os.getpid(), **more}) + "\n")

    note()
    rank, at_step, at_call = map(int, (os.environ["KILL_RANK_MOMENT"] or "-1 0 0").split())
    step, calls = Trainer._step, [0]

    def count(frame: FrameType, event: str, function: Any) -> None:
        calls[0] += 1
        if calls[0] == at_call:
            sys.setprofile(None)
            note(killed=time.time())
            os.kill(os.getpid(), signal.SIGKILL)

    def step_and_count(trainer: Trainer) -> None:
        if trainer.at.step + 1 == at_step and trainer.ranks.rank == rank:
            sys.setprofile(count)
        step(trainer)

    Trainer._step = step_and_count  # type: ignore
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(as_rank(sys.argv[1:]) if "TORCHELASTIC_RUN_ID" in os.environ else cli.run(command))
