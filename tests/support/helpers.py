"""Training by command line, and what it ends with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from fixlm import cli
from fixlm.runs import checkpoint
from fixlm.training.trainer import Trainer


def train(*flags: str) -> int:
    return cli.main(["train", *flags])


def final(run: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "checkpoints" / "last" / "model.safetensors")
    return {name: tensor.clone() for name, tensor in tensors.items()}  # not a view of a file that tests change


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(run: Path) -> list[tuple[object, ...]]:
    """What the metrics say that does not depend on the clock."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(record["step"], record.get("loss"), json.dumps(record.get("validation"))) for record in records]


def assert_same_end(one: Path, other: Path) -> None:
    """Weights, optimizer, random and LSTM state, scores and metrics are the same bit for bit."""
    for name in (checkpoint.MODEL, checkpoint.TRAINING):
        assert (one / "checkpoints/last" / name).read_bytes() == (other / "checkpoints/last" / name).read_bytes()
    assert os.readlink(one / "checkpoints/best") == os.readlink(other / "checkpoints/best")
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for key in ("valid", "test", "best_step", "steps", "parameters"):
        assert results[0][key] == results[1][key]
    assert losses(one) == losses(other)


def interrupt(trainer: Trainer) -> None:
    """What Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)
