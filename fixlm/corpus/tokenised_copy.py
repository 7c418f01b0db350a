"""The copy of a tokenised corpus that is kept: arrays in a file that is checked when it is read back."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.files import parse_json, write_atomically


def write(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Writes arrays and a JSON description as one safetensors file with a SHA-256 over both.

    Raises:
        OSError: the file cannot be written; nothing is left behind then.
    """
    from safetensors.numpy import save

    content = {"about": about, "sha256": _digest(arrays, about)}
    metadata = {"content": json.dumps(content, sort_keys=True, ensure_ascii=False)}  # safetensors shuffles keys
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(dict(arrays), metadata=metadata))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """What `write` wrote, or None if the file is missing, unreadable or damaged in any bit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            content = parse_json((file.metadata() or {})["content"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return (arrays, content["about"]) if _digest(arrays, content["about"]) == content["sha256"] else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def _digest(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
