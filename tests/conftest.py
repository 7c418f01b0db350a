"""What all tests share: a cache of their own, and no hub."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixlm.console import listening


@pytest.fixture(scope="session", autouse=True)
def own_cache_and_no_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache a session, so that the sample is tokenised once; the user's own cache is never touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIXLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """A shell that starts the tests in the background has SIGINT ignored, by them and by all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three splits of small sentences that a small model can learn."""
    folder = tmp_path_factory.mktemp("tiny")
    draw = random.Random(4)
    nouns, verbs = ("cat", "dog", "bird", "fish", "horse"), ("sees", "likes", "hears")
    for split, lines in (("train", 500), ("valid", 60), ("test", 70)):
        sentences = (
            f"the {draw.choice(nouns)} {draw.choice(verbs)} the {draw.choice(nouns)} {'again ' * draw.randrange(2)}."
            for _ in range(lines)
        )
        (folder / f"{split}.txt").write_text("\n".join(sentences) + "\n")
    return folder


@pytest.fixture(scope="session")
def small(tiny_corpus: Path) -> list[str]:
    """Flags of a training run on `tiny_corpus` that takes about a second."""
    flags = "--hidden-size 16 --embed-size 16 --batch-size 4 --bptt 10 --max-steps 24 --validate-every 12 --threads 1"
    return ["--data", str(tiny_corpus), *flags.split()]


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The lines that are logged, as a command shows them."""
    lines: list[str] = []
    with listening(lines.append):
        yield lines


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[Any], Any]], None]:
    """``at_step(5, do)`` has ``do(trainer)`` called once, right after step 5 was taken."""
    from fixlm.training.trainer import Trainer

    todo: dict[int, Callable[[Any], Any]] = {}
    step = Trainer._step

    def step_and_do(trainer: Trainer) -> None:
        step(trainer)
        if trainer.at.step in todo:
            todo.pop(trainer.at.step)(trainer)

    monkeypatch.setattr(Trainer, "_step", step_and_do)
    return todo.__setitem__
