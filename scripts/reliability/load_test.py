"""Takes a corpus of 100 million tokens, and then a vocabulary of a million words, through everything up to training.

python scripts/reliability/load_test.py --data wikitext-2 --out load.json

The corpus is the train split of a real one, its lines repeated and shuffled. Each stage's seconds and the largest
memory of the process so far are printed; more than --limit of it is an error.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from embeddings.options import LARGEST, Checked, Count, Natural, Positive, option
from fixlm import cli
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError

LINES_TO_SCORE = 100  # of valid and of test: how long they are is not what is measured


@dataclass(frozen=True)
class Settings(Checked):
    """What to load the program with."""

    data: str = option("wikitext-2", "the text to repeat: wikitext-2, sample, or a folder with three splits")
    tokens: Annotated[int, Ge(1000), Le(LARGEST)] = option(100_000_000, "of the train split that is made of it")
    words: Annotated[int, Ge(1000), Le(LARGEST)] = option(1_000_000, "of the large vocabulary")
    dim: Annotated[int, Ge(2), Le(LARGEST)] = option(256, "hidden size, and N of the PMI matrix")
    steps: Count = option(5, "of training")
    limit: Positive = option(8.0, "the most memory that either part may take, in GB")
    seed: Natural = option(1, "of the shuffling")
    part: Literal["both", "corpus", "vocabulary"] = option("both", "which of the two")
    out: str | None = option(None, "a JSON file for the figures")


def command(arguments: list[str]) -> None:
    """Parses, runs both parts in processes of their own, prints."""
    settings = read_command_line(arguments, Settings, __doc__)
    figures: dict[str, Any] = {
        "command": shlex.join(["python", "scripts/reliability/load_test.py", *_without_paths(arguments)])
    }
    for part in (large_corpus, large_vocabulary):
        if settings.part in ("both", part.__name__.removeprefix("large_")):
            figures[part.__name__] = _apart(part, settings)
    if settings.out:
        from embeddings.files import write_json
        from fixlm.runs.versions import versions

        write_json(Path(settings.out), {**figures, "versions": versions()})


def large_corpus(settings: Settings, folder: Path, stage: Callable[[str], None]) -> dict[str, Any]:
    """Vocabulary, co-occurrence, PMI and a few steps of training on a corpus of so many tokens."""
    from fixlm.console import progress
    from fixlm.corpus import corpus, registry

    data = folder / "data"
    write_large_corpus(registry.find(settings.data), settings, data)
    stage("write the text")
    with progress() as show:
        text = corpus.load(str(data), progress=show)
    figures = {"tokens": len(text.splits["train"]), "V": len(text)}
    stage("vocabulary and ids")
    size = (data / "train.txt").stat().st_size
    _build(text.statistics(), settings, figures)
    stage("co-occurrence and PMI")
    _train(["--data", str(data), "--output-embed", "pmi"], settings, folder)
    stage(f"{settings.steps} steps of training")
    return {**figures, "bytes of text": size}


def large_vocabulary(settings: Settings, folder: Path, stage: Callable[[str], None]) -> dict[str, Any]:
    """A few steps of training with the `hadamard` and the `walsh` codes of a vocabulary of so many words."""
    data = folder / "data"
    data.mkdir()
    draw = random.Random(settings.seed)
    words = [f"word{number}" for number in range(settings.words - 1)]  # and <eos>
    draw.shuffle(words)
    (data / "train.txt").write_text("\n".join(" ".join(words[i : i + 50]) for i in range(0, len(words), 50)) + "\n")
    for split in ("valid", "test"):
        (data / f"{split}.txt").write_text(" ".join(draw.choices(words, k=50)) + "\n")
    stage("write the text")
    small = ["--data", str(data), "--embed-size", "32", "--batch-size", "8", "--bptt", "8"]
    # Of words that occur once each there is no meaning to be had: families by rank.
    walsh = ["--output-embed", "walsh", "--walsh-families", "2048", "--walsh-positions", "frequency"]
    _train([*small, *walsh], settings, folder / "walsh")
    stage(f"walsh codes, and {settings.steps} steps of training")
    _train([*small, "--output-embed", "hadamard", "--output-dim", "512"], settings, folder / "hadamard")
    stage(f"hadamard matrix, and {settings.steps} steps of training")
    return {"V": settings.words, "N": 512, "M": 2048}


def write_large_corpus(source: Any, settings: Settings, folder: Path) -> None:
    """The train split's lines, shuffled anew each time, until there are enough tokens; a few lines of the others."""
    folder.mkdir()
    draw = random.Random(settings.seed)
    lines = [words for words, _ in source.lines("train")]
    tokens = 0
    with open(folder / "train.txt", "w", encoding="utf-8") as file:
        while tokens < settings.tokens:
            draw.shuffle(lines)
            for words in lines:
                file.write(" ".join(words) + "\n")
                tokens += len(words) + 1
    for split in ("valid", "test"):
        some = [words for words, _ in source.lines(split)][:LINES_TO_SCORE]
        (folder / f"{split}.txt").write_text("".join(" ".join(words) + "\n" for words in some), encoding="utf-8")


def _build(statistics: Any, settings: Settings, figures: dict[str, Any]) -> None:
    """The PMI matrix, into the cache, where training finds it."""
    import embeddings
    from embeddings.methods import pmi
    from fixlm.cache_directory import cache_directory
    from fixlm.console import progress

    with progress() as show:
        matrix = embeddings.build_cached(
            "pmi", statistics, settings.dim, 1, pmi.Options(), show, directory=cache_directory() / "matrices"
        )
    figures["matrix"] = matrix.sha256


def _train(flags: list[str], settings: Settings, folder: Path) -> None:
    sizes = ["--hidden-size", str(settings.dim), "--max-steps", str(settings.steps), "--run", str(folder / "run")]
    status = cli.main(
        ["train", *(["--embed-size", str(settings.dim)] if "--embed-size" not in flags else []), *flags, *sizes]
    )
    if status:
        raise InputError("load test", "training ended in an error", found=f"status {status}")


def _apart(part: Callable[..., dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """The figures of a part, from a process that does nothing else."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(part.__name__, settings, sender))
    process.start()
    sender.close()
    try:
        figures: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        raise InputError("load test", f"{part.__name__} ended early", found=f"status {process.exitcode}") from None
    process.join()
    if figures["peak_gb"] > settings.limit:
        raise InputError("memory", "over the limit", found=f"{figures['peak_gb']} GB", expected=f"{settings.limit} GB")
    return figures


def _measure(name: str, settings: Settings, sender: Any) -> None:
    stages: list[dict[str, Any]] = []
    began = time.monotonic()

    def stage(what: str) -> None:
        nonlocal began
        now = time.monotonic()
        stages.append({"stage": what, "seconds": round(now - began, 1), "peak_gb": peak_gb()})
        print(f"{name}: {what}: {stages[-1]['seconds']:,} s, {stages[-1]['peak_gb']} GB at most so far", flush=True)
        began = now

    def work(arguments: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["FIXLM_CACHE"] = f"{folder}/cache"
            figures = globals()[name](settings, Path(folder), stage)
        seconds = round(sum(each["seconds"] for each in stages), 1)
        sender.send({**figures, "seconds": seconds, "peak_gb": peak_gb(), "stages": stages})

    sys.exit(cli.run(work, []))


def peak_gb() -> float:
    """The most memory that this process has had, in GB of 10⁹ bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)


def _without_paths(arguments: list[str]) -> list[str]:
    return [Path(argument).name if os.path.isabs(argument) else argument for argument in arguments]


if __name__ == "__main__":
    sys.exit(cli.run(command))
