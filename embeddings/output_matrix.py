"""The output matrix: (V, N) vectors and the recipe they were built by."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import plain_json
from embeddings.errors import InputError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

ROWS_A_BLOCK = 4096


def hash_vectors(vectors: np.ndarray) -> str:
    """SHA-256 of the vectors as little-endian float32, row after row."""
    return hashlib.sha256(np.ascontiguousarray(vectors, dtype="<f4").data).hexdigest()


@dataclass(frozen=True)
class OutputMatrix:
    """A fixed output matrix.

    Args:
        vectors: (V, N) float32, row i for the word with id i, each of Euclidean norm 1.
        recipe: how it was built: method, options, dim, seed, vocabulary and corpus hashes, and ``sha256`` of
            the vectors. Plain JSON, with no time and no path in it.
    """

    vectors: np.ndarray
    recipe: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The hash of the vectors, recorded when they were built."""
        return self.recipe["sha256"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes safetensors: the tensor ``vectors`` and the metadata key ``recipe``; same recipe, same bytes."""
        save_array(path, "vectors", self.vectors, self.recipe)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OutputMatrix:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is no output matrix, or its vectors do not match the hash in its recipe.
        """
        return cls(*load_array(path, "vectors", "output matrix", hash_vectors, dtype="F32", ndim=2))

    def to_keyed_vectors(self, words: Sequence[str]) -> KeyedVectors:
        """The same vectors as gensim's `KeyedVectors`, under the given words in order of ids."""
        from gensim.models import KeyedVectors

        keyed = KeyedVectors(self.vectors.shape[1])
        keyed.add_vectors(list(words), self.vectors)
        return keyed

    def save_word2vec(self, path: str | os.PathLike[str], words: Sequence[str], *, binary: bool) -> None:
        """Writes word2vec text or binary that gensim's `KeyedVectors.load_word2vec_format` reads."""
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            # Not to_keyed_vectors(...).save_word2vec_format: that writes by falling count, of which it has none.
            file.write(f"{self.vectors.shape[0]} {self.vectors.shape[1]}\n".encode())
            for word, row in zip(words, self.vectors, strict=True):
                numbers = row.astype("<f4").tobytes() if binary else " ".join(map(str, row.tolist())).encode()
                file.write(word.encode() + b" " + numbers + b"\n")


def save_array(path: str | os.PathLike[str], name: str, array: np.ndarray, recipe: dict[str, Any]) -> None:
    """Writes safetensors: the tensor ``name`` and the metadata key ``recipe``; same recipe, same bytes."""
    from safetensors.numpy import save_file

    text = json.dumps(recipe, sort_keys=True, ensure_ascii=False)
    with replacing(Path(path)) as temporary:
        save_file({name: array}, temporary, metadata={"recipe": text})


def load_array(
    path: str | os.PathLike[str],
    name: str,
    kind: str,
    digest: Callable[[np.ndarray], str],
    *,
    dtype: str,
    ndim: int,
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
            recipe = plain_json.parse((file.metadata() or {})["recipe"])
            tensor = file.get_slice(name)
            if len(tensor.get_shape()) != ndim or tensor.get_dtype() != dtype:
                raise ValueError(f"{name} {tensor.get_dtype()}{tensor.get_shape()}, not {ndim}-D {dtype}")
            array = file.get_tensor(name)
            recorded = recipe["sha256"]
    except FileNotFoundError:
        raise InputError(path, "there is no such file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        article = "an" if kind[0] in "aeiou" else "a"
        raise InputError(
            path, f"not {article} {kind}", found=error, expected="safetensors with a recipe"
        ) from None
    if (found := digest(array)) != recorded:
        raise InputError(
            path, f"the {name} were changed since they were built", found=found, expected=recorded
        )
    return array, recipe


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


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The rows scaled to Euclidean norm 1, as float32; a row of zeros stays zero."""
    unit = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), ROWS_A_BLOCK):  # in float64, of which there is never a whole matrix
        rows = vectors[start : start + ROWS_A_BLOCK].astype(np.float64, copy=False)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit[start : start + ROWS_A_BLOCK] = rows / np.where(norms > 0, norms, 1)
    return unit
