"""The output matrix: (V, N) vectors and the recipe they were built by."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import plain_json
from embeddings.errors import InputError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors


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
        from safetensors.numpy import save

        recipe = json.dumps(self.recipe, sort_keys=True, ensure_ascii=False)
        write_atomically(Path(path), save({"vectors": self.vectors}, metadata={"recipe": recipe}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OutputMatrix:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is no output matrix, or its vectors do not match the hash in its recipe.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                recipe = plain_json.parse((file.metadata() or {})["recipe"])
                tensor = file.get_slice("vectors")
                if len(tensor.get_shape()) != 2 or tensor.get_dtype() != "F32":
                    raise ValueError(f"vectors {tensor.get_dtype()}{tensor.get_shape()}, not F32[V, N]")
                matrix = cls(file.get_tensor("vectors"), recipe)
                recorded = matrix.sha256
        except FileNotFoundError:
            raise InputError(path, "there is no such file") from None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                path, "not an output matrix", found=error, expected="safetensors with a recipe"
            ) from None
        found = hash_vectors(matrix.vectors)
        if found != recorded:
            raise InputError(
                path, "the vectors were changed since they were built", found=found, expected=recorded
            )
        return matrix

    def to_keyed_vectors(self, words: Sequence[str]) -> KeyedVectors:
        """The same vectors as gensim's `KeyedVectors`, under the given words in order of ids."""
        from gensim.models import KeyedVectors

        keyed = KeyedVectors(self.vectors.shape[1])
        keyed.add_vectors(list(words), self.vectors)
        return keyed

    def save_word2vec(self, path: str | os.PathLike[str], words: Sequence[str], *, binary: bool) -> None:
        """Writes word2vec text or binary that gensim's `KeyedVectors.load_word2vec_format` reads."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            # Not to_keyed_vectors(...).save_word2vec_format: that writes by falling count, of which it has none.
            with open(temporary, "wb") as file:
                file.write(f"{self.vectors.shape[0]} {self.vectors.shape[1]}\n".encode())
                for word, row in zip(words, self.vectors, strict=True):
                    numbers = (
                        row.astype("<f4").tobytes() if binary else " ".join(map(str, row.tolist())).encode()
                    )
                    file.write(word.encode() + b" " + numbers + b"\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: a temporary name beside it, fsync, rename; modes follow the umask."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Puts a directory on disk: only then is a rename in it, or a file made in it, there for good."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The rows scaled to Euclidean norm 1, as float32; a row of zeros stays zero."""
    norms = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(norms > 0, norms, 1), dtype=np.float32)
