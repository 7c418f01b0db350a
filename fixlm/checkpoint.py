"""Checkpoints that survive a crash: ``checkpoints/step-N/`` appears whole or not at all.

A checkpoint is written under a temporary name, every file fsynced, the manifest with each file's size and SHA-256
last, and then renamed. ``last`` and ``best`` are relative links, swapped by rename. safetensors and JSON only:
nothing that is read here can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from embeddings.output_matrix import write_atomically
from fixlm.errors import InputError

MODEL = "model.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk that was found to be whole."""

    path: Path

    def model(self) -> dict[str, Tensor]:
        """The model's state dict."""
        return safetensors.torch.load_file(self.path / MODEL)

    def training(self) -> dict[str, Tensor]:
        """Optimizer moments, random state and LSTM state."""
        return safetensors.torch.load_file(self.path / TRAINING)

    def state(self) -> dict[str, Any]:
        """Step, seconds and scores so far."""
        return json.loads((self.path / STATE).read_text())


def save(
    root: Path,
    step: int,
    model: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    best: bool,
) -> None:
    """Writes ``step-N``, points ``last`` (and ``best``) to it, and removes what neither needs.

    Raises:
        InputError: it cannot be written; every older checkpoint is as it was.
    """
    root.mkdir(parents=True, exist_ok=True)
    temporary, final = root / f".step-{step}.tmp", root / f"step-{step}"
    files = {
        MODEL: safetensors.torch.save(_contiguous(model)),
        TRAINING: safetensors.torch.save(_contiguous(training)),
        STATE: (json.dumps(state, indent=1, sort_keys=True) + "\n").encode(),
    }
    manifest = {name: {"bytes": len(content), "sha256": _sha256(content)} for name, content in files.items()}
    files[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in files.items():
            write_atomically(temporary / name, content)
        if final.exists():  # an interrupted run takes the same step again
            shutil.rmtree(final)
        os.rename(temporary, final)
        _sync_directory(root)
        for link in ("last", "best") if best else ("last",):
            _point(root / link, final.name)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            final, "the checkpoint cannot be written", found=error, fix="make room, then --resume"
        ) from error
    _remove_old(root)


def newest(root: Path, log: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; each one passed over is named, left-over temporary ones are removed."""
    for leftover in root.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in sorted(root.glob("step-*"), key=_step, reverse=True):
        try:
            return verify(path)
        except InputError as error:
            log(f"warning: {error} Trying the one before it.")
    return None


def verify(path: Path) -> Checkpoint:
    """The checkpoint at a path, each of its files compared with the manifest.

    Raises:
        InputError: naming the file that is missing, cut or changed.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(path / MANIFEST, "not a whole checkpoint", found=error) from None
    for name in (MODEL, TRAINING, STATE):
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise InputError(path / name, "cannot be read", found=error.strerror) from None
        found = (len(content), _sha256(content))
        if found != expected.get(name):
            raise InputError(path / name, "damaged", found=found, expected=expected.get(name))
    return Checkpoint(path)


def _remove_old(root: Path) -> None:
    """Keeps ``last``, ``best`` and the newest besides, so that one damaged file never costs the run."""
    steps = sorted(root.glob("step-*"), key=_step, reverse=True)
    keep = {os.readlink(root / link) for link in ("last", "best") if (root / link).is_symlink()}
    keep |= {path.name for path in steps[:2]}
    for path in steps:
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _point(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def _step(path: Path) -> int:
    number = path.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sync_directory(path: Path) -> None:
    """A rename is on disk only once its directory is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
