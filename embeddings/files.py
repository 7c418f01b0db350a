"""Files that are written whole or not at all, and files of strangers: arrays with a recipe, JSON."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; modes follow the umask."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside a file, which takes the file's place, fsynced, once all went well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # that of the umask; safetensors would make it 0600
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Puts a file, or the names in a directory, on disk: only then is what was renamed there for good."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_regular(path: Path, expected: str) -> None:
    """Raises for a pipe or a device, which a reader would wait for without end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(path, "not a file", found="a special file", expected=expected)


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, whose every failure is a ValueError: nesting too deep for it is a RecursionError otherwise."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def save_array(path: str | os.PathLike[str], name: str, array: np.ndarray, recipe: dict[str, Any]) -> None:
    """Writes safetensors: the tensor ``name`` and the metadata key ``recipe``; same recipe, same bytes."""
    from safetensors.numpy import save_file

    text = json.dumps(recipe, sort_keys=True, ensure_ascii=False)
    with replacing(Path(path)) as temporary:
        save_file({name: array}, temporary, metadata={"recipe": text})


def load_array(
    path: str | os.PathLike[str], name: str, kind: str, digest: Callable[[np.ndarray], str], *, dtype: str, ndim: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Reads what `save_array` wrote: the array and its recipe.

    Args:
        kind: what the file is called in an error.
        digest: the hash of the array that stands in the recipe as ``sha256``.
        dtype: what safetensors calls the type of its entries.
        ndim: how many dimensions it has.

    Raises:
        InputError: the file is of another kind, or was changed.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            recipe = parse_json((file.metadata() or {})["recipe"])
            tensor = file.get_slice(name)
            if len(tensor.get_shape()) != ndim or tensor.get_dtype() != dtype:
                raise ValueError(f"{name} {tensor.get_dtype()}{tensor.get_shape()}, not {ndim}-D {dtype}")
            array = file.get_tensor(name)
            recorded = recipe["sha256"]
    except FileNotFoundError:
        raise InputError(path, "there is no such file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        article = "an" if kind[0] in "aeiou" else "a"
        expected = "safetensors with a recipe"
        raise InputError(path, f"not {article} {kind}", found=error, expected=expected) from None
    if (found := digest(array)) != recorded:
        what = f"the {name} were changed since they were built"
        raise InputError(path, what, found=found, expected=recorded)
    return array, recipe


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Plain values as readable JSON, whole or not at all; refuses NaN and infinity."""
    write_atomically(path, (json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())
