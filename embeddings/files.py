"""Files that are written whole or not at all, and files of strangers: arrays with a recipe, JSON."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from embeddings.errors import InputError

SAFETENSORS_NAMES = {"<f4": "F32", "<i4": "I32", "<u2": "U16"}
"""What safetensors calls the types of numpy."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; modes follow the umask. A device such as /dev/null is written to as it is."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
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


def hash_file(path: Path) -> str:
    """SHA-256 of a file. It is remembered while size and time of the file stay: files of vectors have gigabytes.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    return _hash_content(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _hash_content(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Plain values as readable JSON, whole or not at all; refuses NaN and infinity."""
    write_atomically(path, (json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def hash_array(array: np.ndarray, dtype: str) -> str:
    """SHA-256 of the entries, row after row, as little-endian numbers of the type, such as ``<f4``."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype=dtype).data).hexdigest()


class StoredArray:
    """What is common to the dataclasses with an array and its recipe."""

    KIND: ClassVar[str]  # for errors: "an output matrix"
    TENSOR: ClassVar[str]  # the name of the array, as a field and in the file
    DTYPE: ClassVar[str]
    NDIM: ClassVar[int]
    recipe: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The hash of the array, recorded when it was built."""
        return self.recipe["sha256"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes safetensors: the tensor and the metadata key ``recipe``; same recipe, same bytes.

        Raises:
            OSError: the file cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        text = json.dumps(self.recipe, sort_keys=True, ensure_ascii=False)
        with replacing(Path(path)) as temporary:
            try:
                save_file({self.TENSOR: getattr(self, self.TENSOR)}, temporary, metadata={"recipe": text})
            except SafetensorError as error:  # which is no OSError, where the disk is full
                raise OSError(str(error)) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is of another kind, or its array does not match the hash in its recipe.
        """
        from safetensors import SafetensorError, safe_open

        name, dtype = cls.TENSOR, SAFETENSORS_NAMES[cls.DTYPE]
        try:
            with safe_open(path, framework="numpy") as file:
                recipe = parse_json((file.metadata() or {})["recipe"])
                tensor = file.get_slice(name)
                if len(tensor.get_shape()) != cls.NDIM or tensor.get_dtype() != dtype:
                    raise ValueError(f"{name} {tensor.get_dtype()}{tensor.get_shape()}, not {cls.NDIM}-D {dtype}")
                array = file.get_tensor(name)
                recorded = recipe["sha256"]
        except FileNotFoundError:
            raise InputError(path, "there is no such file") from None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(path, f"not {cls.KIND}", found=error, expected="safetensors with a recipe") from None
        if (found := hash_array(array, cls.DTYPE)) != recorded:
            raise InputError(path, f"the {name} were changed since they were built", found=found, expected=recorded)
        return cls(**{name: array, "recipe": recipe})
