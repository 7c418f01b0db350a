"""Checkpoints that survive a crash: ``checkpoints/step-N/`` appears whole or not at all.

A checkpoint is written under a temporary name, every file fsynced, the manifest with each file's size and SHA-256
last, and then renamed. ``last`` and ``best`` are relative links, swapped by rename. safetensors and JSON only:
nothing that is read here can run code. No link is followed out of the directory.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from embeddings.files import parse_json, sync, write_atomically
from fixlm.errors import InputError, WriteError

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
LINKS = ("last", "best")
_NAME = re.compile(r"step-\d{1,18}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk that was found to be whole."""

    path: Path

    def model(self) -> dict[str, Tensor]:
        """The model's state dict, as it was scored: with the averaged weights where there is an average."""
        return self._tensors(MODEL)

    def training(self) -> dict[str, Tensor]:
        """Optimizer state, random state, the core's state and, beside an average, the weights of training itself."""
        return self._tensors(TRAINING)

    def state(self) -> dict[str, Any]:
        """Step, seconds and scores so far."""
        try:
            state = parse_json((self.path / STATE).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(self.path / STATE, "no state of a run", found=error) from None
        if not isinstance(state, dict):
            raise InputError(self.path / STATE, "no state of a run", found=type(state).__name__)
        return state

    def _tensors(self, name: str) -> dict[str, Tensor]:
        """A file's tensors; a manifest that agrees with it does not make it safetensors."""
        try:
            return safetensors.torch.load_file(self.path / name)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(self.path / name, "not a whole safetensors file", found=error) from None


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
        WriteError: it cannot be written; every older checkpoint is as it was.
    """
    temporary, final = root / f".step-{step}.tmp", root / f"step-{step}"
    files = {
        MODEL: safetensors.torch.save(_contiguous(model)),
        TRAINING: safetensors.torch.save(_contiguous(training)),
        STATE: (json.dumps(state, indent=1, sort_keys=True) + "\n").encode(),
    }
    manifest = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    files[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    try:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in files.items():
            write_atomically(temporary / name, content)
        sync(temporary)
        if final.exists():  # damaged, since a resumed run goes on from the newest that is whole
            shutil.rmtree(final)
        os.rename(temporary, final)
        sync(root)
        for link in LINKS if best else ("last",):
            point(root, link, step)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise WriteError(
            final, "the checkpoint cannot be written", found=error, fix="make room, then --resume"
        ) from error
    _remove_old(root, step)


def newest(root: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; each one passed over is named, left-over temporary ones are removed."""
    for leftover in root.glob(".*.tmp"):
        remove(leftover)
    for path in _by_step(root):
        try:
            return verify(path)
        except InputError as error:
            logger.warning(f"{error} Trying the one before it.")
    return None


def find(root: Path, name: str) -> Path | None:
    """Where the checkpoint ``best``, ``last`` or ``step-N`` is; None if there is none or the name is no such.

    A copy of a run that followed its links has whole directories in their place.
    """
    if name in LINKS and os.path.isdir(root / name) and not os.path.islink(root / name):
        return root / name
    try:
        target = os.readlink(root / name) if name in LINKS else name
    except OSError:
        return None
    return root / target if _NAME.fullmatch(target) and os.path.lexists(root / target) else None


def point(root: Path, link: str, step: int) -> None:
    """Points ``last`` or ``best`` at a step: a crash may have come between a checkpoint and its links."""
    path, temporary = root / link, root / f".{link}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(f"step-{step}")
    if path.is_dir() and not path.is_symlink():  # in a copy that followed the links
        remove(path)
    os.replace(temporary, path)


def verify(path: Path) -> Checkpoint:
    """The checkpoint at a path, each of its files compared with the manifest.

    Raises:
        InputError: naming the file that is missing, cut, changed or a link.
    """
    if not stat.S_ISDIR(_mode(path)):
        raise InputError(path, "not a checkpoint", found="a link or a file", expected="a directory")
    _require_file(path / MANIFEST)
    try:
        manifest = parse_json((path / MANIFEST).read_bytes())
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(path / MANIFEST, "not a whole checkpoint", found=error) from None
    for name in (MODEL, TRAINING, STATE):
        _require_file(path / name)
        try:
            with open(path / name, "rb") as file:
                found = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(path / name, "cannot be read", found=error.strerror) from None
        if found != expected.get(name):
            raise InputError(path / name, "damaged", found=found, expected=expected.get(name))
    return Checkpoint(path)


def verify_exported(path: Path, sha256: str) -> Checkpoint:
    """The weights of a run that was exported to a folder, compared with their hash in its ``config.json``.

    Raises:
        InputError: they are missing, changed or a link.
    """
    _require_file(path / MODEL)
    with open(path / MODEL, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        fix = "export the run again"
        raise InputError(path / MODEL, "not the weights that were exported", found=found, expected=sha256, fix=fix)
    return Checkpoint(path)


def remove(path: Path) -> None:
    """Removes a file, a link or a directory with all it holds, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror) from None


def _require_file(path: Path) -> None:
    """Raises for a link, which could lead anywhere, and a pipe, which would never end."""
    if not stat.S_ISREG(_mode(path)):
        raise InputError(path, "damaged", found="a link or a special file", expected="a file")


def _remove_old(root: Path, step: int) -> None:
    """Keeps this step's, the one before it and ``best``, so that one damaged file never costs the run.

    What is newer than this step did not verify when the run was resumed: it must not count as one of the two.
    """
    steps = _by_step(root)
    keep = {path.name for path in [path for path in steps if _step(path) <= step][:2]}
    keep |= {os.readlink(root / link) for link in LINKS if (root / link).is_symlink()}
    for path in steps:
        if path.name not in keep:
            remove(path)


def _by_step(root: Path) -> list[Path]:
    """All checkpoints, the newest first."""
    return sorted((path for path in root.glob("step-*") if _NAME.fullmatch(path.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
