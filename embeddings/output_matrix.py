"""The output matrix: (V, N) vectors and the recipe they were built by, in memory and in files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.errors import InputError
from embeddings.files import StoredArray, hash_array, replacing

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

ROWS_A_BLOCK = 4096
SUFFIXES = {
    ".safetensors": "safetensors with the recipe",
    ".txt": "word2vec text",
    ".vec": "word2vec text",
    ".bin": "word2vec binary",
}


def hash_vectors(vectors: np.ndarray) -> str:
    """SHA-256 of the vectors as little-endian float32, row after row."""
    return hash_array(vectors, OutputMatrix.DTYPE)


@dataclass(frozen=True)
class OutputMatrix(StoredArray):
    """A fixed output matrix.

    Args:
        vectors: (V, N) float32, row i for the word with id i, each of Euclidean norm 1.
        recipe: how it was built: method, options, dim, seed, vocabulary and corpus hashes, and ``sha256`` of
            the vectors. Plain JSON, with no time and no path in it.
    """

    KIND, TENSOR, DTYPE, NDIM = "an output matrix", "vectors", "<f4", 2

    vectors: np.ndarray
    recipe: dict[str, Any]

    def to_keyed_vectors(self, words: Sequence[str]) -> KeyedVectors:
        """The same vectors as gensim's `KeyedVectors`, under the given words in order of ids."""
        from gensim.models import KeyedVectors

        keyed = KeyedVectors(self.vectors.shape[1])
        keyed.add_vectors(list(words), self.vectors)
        return keyed

    def export(self, path: str | os.PathLike[str], words: Sequence[str]) -> None:
        """Writes the matrix, whole or not at all, in the format that the file's suffix names; see `check_export`."""
        path = Path(path)
        try:
            if path.suffix == ".safetensors":
                self.save(path)
            else:
                save_word2vec(path, words, self.vectors, binary=path.suffix == ".bin")
        except OSError as error:
            raise InputError(path, f"cannot be written: {error.strerror or error}") from None


def save_word2vec(
    path: str | os.PathLike[str], words: Sequence[str], vectors: np.ndarray, *, binary: bool = False
) -> None:
    """Writes word2vec text or binary that gensim's `KeyedVectors.load_word2vec_format` reads.

    Args:
        vectors: (V, N), a row a word; in text each number has the nine digits that tell float32 numbers apart.
    """
    numbers_as_text = " ".join(["%.9g"] * vectors.shape[1])
    with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        # Not KeyedVectors.save_word2vec_format: that writes by falling count, of which there is none.
        file.write(f"{vectors.shape[0]} {vectors.shape[1]}\n".encode())
        for word, row in zip(words, vectors, strict=True):
            numbers = row.astype("<f4").tobytes() if binary else (numbers_as_text % tuple(row.tolist())).encode()
            file.write(word.encode() + b" " + numbers + b"\n")


def check_export(path: str | os.PathLike[str]) -> Path:
    """The path, if a matrix can be written there; to be called before the work of building one.

    Args:
        path: the file to write; an existing one will be replaced.

    Raises:
        InputError: the suffix names no format, or the folder is missing or cannot be written.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix not in SUFFIXES:
        expected = ", ".join(f"{suffix} ({format})" for suffix, format in SUFFIXES.items())
        raise InputError("--out", "the suffix names no format", found=f"'{path}'", expected=expected)
    if path.is_dir():
        raise InputError("--out", "is a directory", found=f"'{path}'", expected="a file")
    if not path.parent.is_dir():
        raise InputError("--out", "there is no such folder", found=f"'{path.parent}'", fix="make it first")
    attempt = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        attempt.touch()
        attempt.unlink()
    except OSError as error:
        raise InputError("--out", f"cannot be written: {error.strerror or error}", found=f"'{path}'") from None
    return path


def check_words(path: Path, words: Sequence[str]) -> None:
    """Raises if a word cannot stand in the format of ``path``: word2vec ends a word by a space."""
    if path.suffix == ".safetensors":
        return
    for number, word in enumerate(words):
        if " " in word or "\n" in word:
            raise InputError(
                "--out", "a word that the word2vec formats cannot hold", found=f"{word!r} (id {number})",
                expected="words without a space", fix="write .safetensors",
            )  # fmt: skip


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The rows scaled to Euclidean norm 1, as float32; a row of zeros stays zero."""
    unit = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), ROWS_A_BLOCK):  # in float64, of which there is never a whole matrix
        rows = vectors[start : start + ROWS_A_BLOCK].astype(np.float64, copy=False)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit[start : start + ROWS_A_BLOCK] = rows / np.where(norms > 0, norms, 1)
    return unit
