"""Kills a training process with SIGKILL again and again, resumes it, and compares it with a run left alone.

python scripts/reliability/kill_test.py --kills 500

Each process is forked from this one, which has everything imported, so that a kill costs a fraction of a second. By
default a process counts its own function calls, or in turn those of them that touch files, and kills itself at one
drawn from the seed: a moment that comes again with the same seed. With --clock this process kills it after a random
time instead, wherever it then is.
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from embeddings.files import write_json
from embeddings.options import Checked, Count, Natural, option
from fixlm import cli, console
from fixlm.config.command_line import read_command_line
from fixlm.config.read import applies
from fixlm.errors import InputError
from fixlm.runs import checkpoint
from fixlm.runs.versions import versions

FILE_CALLS = frozenset(
    ["open", "write", "flush", "fsync", "close", "rename", "replace", "mkdir", "rmdir", "unlink", "symlink"]
)
FLAGS = (
    "--hidden-size 8 --embed-size 8 --batch-size 4 --bptt 8 --max-steps 30 --validate-every 10 "
    "--checkpoint-every 2 --threads 1"
)


@dataclass(frozen=True)
class Settings(Checked):
    """What to kill, how often and when."""

    kills: Count = option(30, "how many times to kill a run that has begun")
    seed: Natural = option(1, "the moments come from it")
    layers: str = option("hadamard,tied,learned,pmi", "output layers, which the runs have in turn")
    clock: bool = option(False, "kill after a random time instead of at a random function call")
    out: str | None = option(None, "a JSON file for the figures")


@dataclass
class Found:
    """What came of it."""

    kills: int = 0
    kills_before_the_start: int = 0  # before there was a run to resume; not among the others
    kills_during_a_save: int = 0
    runs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Alone:
    """A run that nobody disturbed: how long it is, in function calls, file calls and seconds, and what it ends with."""

    calls: tuple[int, int]
    seconds: float
    end: str


def command(arguments: list[str]) -> None:
    """Parses, kills, prints."""
    settings = read_command_line(arguments, Settings, __doc__)
    with tempfile.TemporaryDirectory() as folder, console.progress() as show:
        os.environ["FIXLM_CACHE"] = f"{folder}/cache"
        found = kill_and_resume(settings, Path(folder), show)
    print(
        f"{found.kills} kills in {found.runs} runs and {found.seconds:.0f} s ({found.kills_during_a_save} during a "
        f"save), and {found.kills_before_the_start} before there was a run: every run ended as the one left alone, bit "
        "for bit, and none ever had fewer than two whole checkpoints once it had two."
    )
    if settings.out:
        figures = dataclasses.asdict(settings) | dataclasses.asdict(found) | {"versions": versions()}
        del figures["out"]
        write_json(Path(settings.out), figures)


def kill_and_resume(settings: Settings, folder: Path, show: Any) -> Found:
    """Runs, each killed and resumed until it ends, until there were enough kills."""
    draw, found = random.Random(settings.seed), Found()
    alone: dict[str, Alone] = {}
    for layer, flags, path in run_after_run(settings, found, FLAGS, folder):
        if layer not in alone:
            alone[layer] = undisturbed(flags, folder / f"alone-{layer}")
        _one_run(flags, path, alone[layer], draw, settings, found, show)
        require_end(path, alone[layer].end, layer)
    return found


def run_after_run(settings: Any, found: Any, sizes: str, folder: Path) -> Iterator[tuple[str, list[str], Path]]:
    """Layer, flags and directory of one run after another, until there were enough kills; counts runs and seconds."""
    write_corpus(folder / "data")
    began, layers = time.monotonic(), settings.layers.split(",")
    while found.kills < settings.kills:
        layer = layers[found.runs % len(layers)]
        flags = ["--data", str(folder / "data"), "--output-embed", layer, *sizes.split()]
        flags += ["--output-dim", "8"] if applies("output-dim", {"output-embed": layer}) else []
        yield layer, flags, folder / f"run-{found.runs}"
        found.runs += 1
        found.seconds = round(time.monotonic() - began, 1)


def require_end(path: Path, expected: str, layer: str) -> None:
    """Raises where a run ended otherwise than the one of its layer that was left alone."""
    if (end := digest(path)) != expected:
        raise InputError(path.name, f"ended otherwise than {layer} left alone", found=end, expected=expected)


def _one_run(
    flags: list[str], path: Path, alone: Alone, draw: random.Random, settings: Settings, found: Found, show: Any
) -> None:
    """Starts a run, kills and resumes it until it ends by itself; it is left alone once there were enough kills."""
    had_two = False
    while True:
        started = (path / "config.json").exists()
        arguments = ["train", *(["--resume"] if started else flags), "--run", str(path)]
        part = draw.random()  # of an undisturbed run
        when: dict[str, Any] = {}
        if found.kills < settings.kills and settings.clock:
            when["kill_after"] = part * alone.seconds
        elif found.kills < settings.kills:
            kind = (found.kills + found.kills_before_the_start) % 2  # any calls and calls for files in turn
            when["kill_at"] = (kind, 1 + int(part * alone.calls[kind]))
        if train(arguments, path.with_suffix(".log"), **when) is not None:
            return
        found.kills += started
        found.kills_before_the_start += not started
        found.kills_during_a_save += any((path / "checkpoints").glob(".step-*"))
        show("kills", found.kills, settings.kills)
        whole = 0
        for saved in (path / "checkpoints").glob("step-*"):
            with contextlib.suppress(InputError):
                checkpoint.verify(saved)
                whole += 1
        if had_two and whole < 2:
            raise InputError(path.name, "a kill cost a checkpoint", found=f"{whole} whole", expected="at least 2")
        had_two = whole >= 2


def train(
    arguments: list[str], log: Path, *, kill_at: tuple[int, int] | None = None, kill_after: float | None = None
) -> tuple[int, int] | None:
    """Trains in a process of its own; its function calls and file calls if it ended, None if it was killed.

    Args:
        kill_at: 0 for any call or 1 for those that touch files, and the number of the one to be killed at.
        kill_after: seconds.

    Raises:
        InputError: it ended in any other way.
    """
    context = multiprocessing.get_context("fork")
    counted = context.RawArray("q", 2)
    process = context.Process(target=_in_child, args=(arguments, log, kill_at, counted))
    process.start()
    process.join(kill_after)
    process.kill()  # nothing happens if it has ended
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    if process.exitcode != 0:
        last = (log.read_text().splitlines() or [""])[-1]
        raise InputError(" ".join(arguments), "ended in an error", found=f"status {process.exitcode}: {last}")
    return counted[0], counted[1]


def _in_child(arguments: list[str], log: Path, kill_at: tuple[int, int] | None, counted: Any) -> None:
    """Trains, and counts calls meanwhile; kills itself at the one it is told."""
    calls = [0, 0]

    def count(frame: FrameType, event: str, function: Any) -> None:
        # Of a call into C both the moment before it and the one after it come by.
        calls[0] += 1
        calls[1] += event.startswith("c_") and function.__name__ in FILE_CALLS
        if kill_at and calls[kill_at[0]] == kill_at[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    with _output_to(log):
        sys.setprofile(count)
        status = cli.main(arguments)
        sys.setprofile(None)
    counted[:] = calls
    sys.exit(status)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def undisturbed(flags: list[str], path: Path) -> Alone:
    """A run left alone, after one in this process: all later ones find modules imported, text and matrix cached."""
    with _output_to(path.with_suffix(".log")):
        status = cli.main(["train", *flags, "--run", f"{path}-first"])
    if status:
        raise InputError("--layers", "cannot be trained", found=path.with_suffix(".log").read_text())
    began = time.monotonic()
    calls = train(["train", *flags, "--run", str(path)], path.with_suffix(".log"))
    assert calls is not None  # nobody killed it
    return Alone(calls, time.monotonic() - began, digest(path))


def digest(path: Path) -> str:
    """SHA-256 of what a run ends with: weights, optimizer, random and LSTM state, scores, losses as they went."""
    last, best = path / "checkpoints" / "last", path / "checkpoints" / "best"
    content = [(last / name).read_bytes() for name in (checkpoint.MODEL, checkpoint.TRAINING)]
    content += [(best / checkpoint.MODEL).read_bytes(), os.readlink(best).encode()]
    result = json.loads((path / "result.json").read_text())
    content.append(json.dumps([result["valid"], result["test"], result["best_step"]]).encode())
    for line in (path / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line) | {"tokens_per_second": None}  # which no two runs share
        content.append(json.dumps(record).encode())
    return hashlib.sha256(b"\n".join(content)).hexdigest()


def write_corpus(folder: Path) -> None:
    """Three splits of random lines of 8 words, which are drawn from 12."""
    draw = random.Random(1)
    folder.mkdir()
    for split, lines in (("train", 300), ("valid", 10), ("test", 10)):
        text = (" ".join(f"w{draw.randrange(12)}" for _ in range(8)) for _ in range(lines))
        (folder / f"{split}.txt").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(cli.run(command))
