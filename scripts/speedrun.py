"""Times training from a cold start to a test perplexity: the clock is that of the whole process.

  python scripts/speedrun.py fixlm [--target 100.3] [--seeds 3] [--json FILE] [--keep DIRECTORY] -- [FLAGS of
                                                                                        python -m fixlm.train]
  python scripts/speedrun.py plain [--json FILE] -- DIRECTORY [FLAGS of scripts/plain_lstm.py]

fixlm    Trains once from each seed, with an empty cache. So the minutes hold the start of Python, reading the text,
         counting and factorising, compilation, training, validation and the test.
plain    The same model in plain PyTorch (scripts/plain_lstm.py), by default for one epoch of its 40. The minutes of all
         are then 40 times those of the epoch. With --max-steps, an epoch is reckoned from the steps that were taken.

Run nothing else on the machine. Compare only what was timed on one machine within the hour.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt
from benchmark import processor
from places import require_places
from study import to_keep

from embeddings.files import parse_json, write_json
from embeddings.options import Checked, Count, option
from fixlm.cli import run
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError, unknown_name
from fixlm.runs.result_file import perplexity
from fixlm.runs.summary import POINTS_TOGETHER, summarise, thinned
from fixlm.runs.versions import versions

PLAIN = Path(__file__).with_name("plain_lstm.py")
OWN_FLAGS = ("--run", "--seed", "--resume")
"""Flags of a training that the speedrun sets."""
PLAIN_EPOCHS = 40


@dataclass(frozen=True)
class PlainSettings(Checked):
    """Where the figures go."""

    json: str = option("speedrun.json", "JSON file to write the figures to")


@dataclass(frozen=True)
class Settings(PlainSettings):
    """What is raced for."""

    target: Annotated[float, Gt(1)] = option(
        100.3, "test perplexity to reach, with n-grams where --ngram-order is given"
    )
    seeds: Count = option(3, "number of runs, from seed 1 on")
    keep: str | None = option(None, "directory to leave the runs in, one for each seed (none: they are removed)")


def command(arguments: Sequence[str]) -> None:
    """Does what the first word of the command line says."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__, end="")
    elif name == "fixlm":
        own, flags = split(rest)
        race(read_command_line(own, Settings, __doc__), flags)
    elif name == "plain":
        own, flags = split(rest, ())
        plain(read_command_line(own, PlainSettings, __doc__), flags)
    else:
        raise unknown_name("speedrun.py", "command", name, ["fixlm", "plain"])


def split(arguments: Sequence[str], own: Sequence[str] = OWN_FLAGS) -> tuple[list[str], list[str]]:
    """The speedrun's own flags, and those of the program it times, behind ``--``.

    Args:
        own: flags of that program which are refused, since the speedrun sets them.
    """
    middle = arguments.index("--") if "--" in arguments else len(arguments)
    flags = list(arguments[middle + 1 :])
    for flag in flags:
        if flag.partition("=")[0] in own:
            raise InputError(flag, "the speedrun sets it itself", fix="drop it, or say --seeds before the --")
    return list(arguments[:middle]), flags


def race(settings: Settings, flags: Sequence[str]) -> None:
    """Trains from each seed, prints and writes after each."""
    require_places(json=settings.json)
    kept = [Path(settings.keep) / f"seed{seed}" for seed in range(1, settings.seeds + 1)] if settings.keep else []
    if there := [path for path in kept if path.exists()]:
        raise InputError("--keep", "there is something already", found=there[0], fix="another directory")
    report: dict[str, Any] = {"flags": shown(flags), "target": settings.target, "runs": []} | conditions()
    for seed in range(1, settings.seeds + 1):
        found = timed_run(seed, flags, settings.keep)
        report["runs"].append(found)
        mixed = found.get("with_ngrams")
        reached = "reached" if (mixed or found)["test"] <= settings.target else "missed"
        with_ngrams = f", with n-grams {mixed['test']:.2f} (valid {mixed['valid']:.2f})" if mixed else ""
        print(
            f"seed {seed}: test perplexity {found['test']:.2f} (valid {found['valid']:.2f}){with_ngrams}, "
            f"{settings.target:g} {reached}, in {found['minutes']:.1f} minutes, "
            f"{found['training_minutes']:.1f} of them training steps"
        )
        write_json(Path(settings.json), report)


def timed_run(seed: int, flags: Sequence[str], keep: str | None) -> dict[str, Any]:
    """One training in a process of its own, whose caches are empty: its figures, and all that `summarise` tells."""
    with tempfile.TemporaryDirectory(prefix="speedrun-") as place:
        directory = (Path(place) / "speedrun" if keep is None else Path(keep).absolute()) / f"seed{seed}"
        caches = {"FIXLM_CACHE": f"{place}/fixlm", "NUMBA_CACHE_DIR": f"{place}/numba"}
        training = ["-m", "fixlm.train", "--run", str(directory), "--seed", str(seed), *flags]
        seconds, lines = clock(training, caches)
        (directory / "log.txt").write_text(lines, encoding="utf-8")
        summary = to_keep(summarise(directory), directory)
        if seed > 1:  # the picture draws the first
            summary["metrics"] = thinned(summary["metrics"], POINTS_TOGETHER)
    result = summary["result"]
    mixed = {"with_ngrams": perplexities(result["with_ngrams"])} if "with_ngrams" in result else {}
    return {
        "seed": seed,
        "minutes": seconds / 60,
        "training_minutes": result["seconds"] / 60,
        **perplexities(result),
        **mixed,
        "trained_parameters": result["parameters"]["trainable"],
        "summary": summary,
    }


def perplexities(scores: Mapping[str, Any]) -> dict[str, float]:
    """Of the valid and the test split, per word."""
    return {split: perplexity(scores[split]) for split in ("valid", "test")}


def plain(settings: PlainSettings, flags: Sequence[str]) -> None:
    """The plain program on the clock of the whole process; prints and writes."""
    require_places(json=settings.json)
    if not any(flag.partition("=")[0] == "--epochs" for flag in flags):
        flags = [*flags, "--epochs", "1"]
    with tempfile.TemporaryDirectory(prefix="speedrun-") as place:
        file = Path(place) / "plain.json"
        seconds, _ = clock([str(PLAIN), *flags, "--json", str(file)], {})
        found = parse_json(file.read_bytes())
    epochs, words = found["epochs"], found["words_an_epoch"]
    seconds_each = (each["train_seconds"] * words / each["words"] + each["valid_seconds"] for each in epochs)
    an_epoch = sum(seconds_each) / len(epochs) / 60
    report = {"flags": shown(flags), "minutes": seconds / 60, "minutes_an_epoch": an_epoch}
    report |= {f"minutes_of_{PLAIN_EPOCHS}_epochs": an_epoch * PLAIN_EPOCHS}
    write_json(Path(settings.json), report | found | conditions())
    print(f"{an_epoch:.1f} minutes an epoch, so {an_epoch * PLAIN_EPOCHS:,.0f} for {PLAIN_EPOCHS}")


def clock(program: Sequence[str], environment: Mapping[str, str]) -> tuple[float, str]:
    """Seconds of a Python process from its start to its end, and what it said, which is shown as well.

    Raises:
        InputError: it failed.
    """
    began, said = time.perf_counter(), []
    with subprocess.Popen(
        [sys.executable, *program],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
    seconds = time.perf_counter() - began
    if process.returncode:
        what = "the run failed, as its own lines say"
        raise InputError(" ".join(program[:2]), what, found=f"status {process.returncode}")
    return seconds, "".join(said)


def shown(flags: Sequence[str]) -> str:
    """The flags in a line, a folder by its name alone: where it lay is nobody's business."""
    parts = (flag.rpartition("=") for flag in flags)
    return " ".join(
        f"{name}{equals}{Path(value).resolve().name if Path(value).is_dir() else value}"
        for name, equals, value in parts
    )


def conditions() -> dict[str, Any]:
    """What times depend on besides the flags."""
    return {"processor": processor(), "cores": os.cpu_count(), "versions": versions()}


if __name__ == "__main__":
    sys.exit(run(command))
