"""Takes a corpus of 100 million tokens, a vocabulary of a million words and a stand-in of WikiText-103 to their limits.

python scripts/reliability/load_test.py --data wikitext-2 --out load.json

The corpus is the train split of a real one, its lines repeated and shuffled. The stand-in is text at random, in the
files in which `datasets` keeps WikiText-103; it is read and tokenised, no more. Each stage's seconds and the largest
memory of the process so far are printed; more than --limit of it is an error.
"""

import json
import math
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

from embeddings.files import write_json
from embeddings.options import LARGEST, Checked, Count, Natural, Positive, option
from fixlm import cli
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError
from fixlm.runs.versions import versions

LINES_TO_SCORE = 100  # of valid and of test: how long they are is not what is measured
WIKITEXT_103_WORDS = 267_734  # and <eos>
FIGURES = "figures.json"
WINDOW = ("--pmi-window", "5", "--pmi-context", "symmetric")  # one decomposition of the size that was measured
Part = Callable[["Settings", Path, Callable[[str], None]], dict[str, Any]]
"""Does its work in a folder of its own, and says at the end of each stage what it was."""


@dataclass(frozen=True)
class Settings(Checked):
    """What to load the program with."""

    data: str = option("wikitext-2", "the text to repeat: wikitext-2, sample, or a folder with three splits")
    tokens: Annotated[int, Ge(1000), Le(LARGEST)] = option(100_000_000, "of the train split that is made of it")
    words: Annotated[int, Ge(1000), Le(LARGEST)] = option(1_000_000, "of the large vocabulary")
    dim: Annotated[int, Ge(2), Le(LARGEST)] = option(256, "hidden size, and N of the PMI matrix")
    steps: Count = option(5, "of training")
    limit: Positive = option(8.0, "the most memory that either part may take, in GB")
    seed: Natural = option(1, "of the shuffling and the random text")
    part: Literal["both", "corpus", "vocabulary", "data-set"] = option(
        "both", "corpus, vocabulary, both of these, or data-set: the stand-in of WikiText-103"
    )
    out: str | None = option(None, "a JSON file for the figures")


def command(arguments: list[str]) -> None:
    """Parses, runs both parts in processes of their own, prints."""
    settings = read_command_line(arguments, Settings, __doc__)
    words = [Path(word).name if os.path.isabs(word) else word for word in arguments]  # not where files lie here
    figures: dict[str, Any] = {"command": shlex.join(["python", "scripts/reliability/load_test.py", *words])}
    parts = {"corpus": large_corpus, "vocabulary": large_vocabulary, "data-set": large_data_set}
    for name, part in parts.items():
        if settings.part == name or (settings.part == "both" and part is not large_data_set):
            figures[part.__name__] = _apart(part, settings)
    if settings.out:
        write_json(Path(settings.out), {**figures, "versions": versions()})


def large_corpus(settings: Settings, folder: Path, stage: Callable[[str], None]) -> dict[str, Any]:
    """Vocabulary, co-occurrence, PMI and a few steps of training on a corpus of so many tokens."""
    import embeddings
    from embeddings.methods import pmi
    from fixlm.cache_directory import cache_directory
    from fixlm.console import progress
    from fixlm.corpus import corpus, registry

    data = folder / "data"
    write_large_corpus(registry.find(settings.data), settings, data)
    stage("write the text")
    with progress() as show:
        text = corpus.load(str(data), progress=show)
    stage("vocabulary and ids")
    with progress() as show:
        # Into the cache, where training finds it; not kept here, since the memory of training is measured too.
        sha256 = embeddings.build_cached(
            "pmi",
            text.statistics(),
            settings.dim,
            1,
            pmi.Options(window=5, context="symmetric"),
            show,
            directory=cache_directory() / "matrices",
        ).sha256
    stage("co-occurrence and PMI")
    _train(["--data", str(data), "--output-embed", "pmi", *WINDOW, "--cross-fit", "0"], settings, folder)
    stage(f"{settings.steps} steps of training")
    size = (data / "train.txt").stat().st_size
    return {"tokens": len(text.splits["train"]), "V": len(text), "matrix": sha256, "bytes of text": size}


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


def large_data_set(settings: Settings, folder: Path, stage: Callable[[str], None]) -> dict[str, Any]:
    """The stand-in by its name through `datasets`: read, counted and tokenised, and then from the tokenised copy."""
    import stand_in

    os.environ |= {"HF_DATASETS_CACHE": str(folder / "data"), "HF_HUB_OFFLINE": "1"}  # read when datasets is imported
    stand_in.write(folder / "data", settings.tokens, WIKITEXT_103_WORDS, settings.seed)
    stage("write the stand-in")
    from fixlm.corpus import corpus

    text = corpus.load("wikitext-103")
    stage("vocabulary and ids")
    sha256 = text.sha256
    del text
    text = corpus.load("wikitext-103")
    assert text.sha256 == sha256
    stage("the tokenised copy")
    size = sum(path.stat().st_size for path in (folder / "data").rglob("*.arrow"))
    return {"tokens": len(text.splits["train"]), "V": len(text), "corpus": sha256, "bytes of text": size}


def write_large_corpus(source: Any, settings: Settings, folder: Path) -> None:
    """The train split's lines, shuffled anew each time, until there are enough tokens; a few lines of the others."""
    folder.mkdir()
    draw = random.Random(settings.seed)
    lines = [words for words, _ in source.lines("train")]
    tokens = sum(len(words) + 1 for words in lines)  # each line ends in <eos>
    with open(folder / "train.txt", "w", encoding="utf-8") as file:
        for _ in range(math.ceil(settings.tokens / tokens)):
            draw.shuffle(lines)
            file.writelines(" ".join(words) + "\n" for words in lines)
    for split in ("valid", "test"):
        some = [words for words, _ in source.lines(split)][:LINES_TO_SCORE]
        (folder / f"{split}.txt").write_text("".join(" ".join(words) + "\n" for words in some), encoding="utf-8")


def _train(flags: list[str], settings: Settings, folder: Path) -> None:
    """Some steps in this process; of a flag that is given twice the last one counts."""
    dim, steps = str(settings.dim), str(settings.steps)
    sizes = ["--hidden-size", dim, "--embed-size", dim, "--max-steps", steps, "--run", str(folder / "run")]
    if status := cli.main(["train", *sizes, *flags]):
        raise InputError("load test", "training ended in an error", found=f"status {status}")


def _apart(part: Part, settings: Settings) -> dict[str, Any]:
    """The figures of a part, from a process that does nothing else."""
    # The folder is this process's, so that it goes even if the system kills the other one for its memory.
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(target=_measure, args=(part, settings, Path(folder)))
        process.start()
        process.join()
        if process.exitcode:
            raise InputError("load test", f"{part.__name__} ended early", found=f"status {process.exitcode}")
        figures: dict[str, Any] = json.loads(Path(folder, FIGURES).read_text())
    if figures["peak_gb"] > settings.limit:
        raise InputError("memory", "over the limit", found=f"{figures['peak_gb']} GB", expected=f"{settings.limit} GB")
    return figures


def _measure(part: Part, settings: Settings, folder: Path) -> None:
    """Writes the figures of a part, which has the folder to itself."""
    stages: list[dict[str, Any]] = []
    began = time.monotonic()

    def stage(what: str) -> None:
        nonlocal began
        now = time.monotonic()
        seconds, peak, began = round(now - began, 1), peak_gb(), now
        stages.append({"stage": what, "seconds": seconds, "peak_gb": peak})
        print(f"{part.__name__}: {what}: {seconds:,} s, {peak} GB at most so far", flush=True)

    def work(_: list[str]) -> None:
        os.environ["FIXLM_CACHE"] = str(folder / "cache")
        figures = part(settings, folder, stage)
        seconds = round(sum(each["seconds"] for each in stages), 1)
        write_json(folder / FIGURES, {**figures, "seconds": seconds, "peak_gb": peak_gb(), "stages": stages})

    sys.exit(cli.run(work, []))


def peak_gb() -> float:
    """The most memory that this process has had, in GB of 10⁹ bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)


if __name__ == "__main__":
    sys.exit(cli.run(command))
