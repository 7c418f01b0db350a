"""Training by command line, and what it ends with."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fixlm import cli


def train(*flags: str) -> int:
    return cli.main(["train", *flags])


def final(run: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "checkpoints" / "last" / "model.safetensors")
    return {
        name: tensor.clone() for name, tensor in tensors.items()
    }  # not a view of a file that tests change


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
