"""Writing an output matrix in the format that the file's suffix names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from embeddings.errors import InputError
from embeddings.output_matrix import OutputMatrix

SUFFIXES = {
    ".safetensors": "safetensors with the recipe",
    ".txt": "word2vec text",
    ".vec": "word2vec text",
    ".bin": "word2vec binary",
}


def check_output(path: str | os.PathLike[str], where: str = "--out") -> Path:
    """The path, if a matrix can be written there; to be called before the work of building one.

    Args:
        path: the file to write; an existing one will be replaced.
        where: the flag that the error names.

    Raises:
        InputError: the suffix names no format, or the folder is missing or cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        expected = ", ".join(f"{suffix} ({format})" for suffix, format in SUFFIXES.items())
        raise InputError(where, "the suffix names no format", found=f"'{path}'", expected=expected)
    if path.is_dir():
        raise InputError(where, "is a directory", found=f"'{path}'", expected="a file")
    if not path.parent.is_dir():
        raise InputError(where, "there is no such folder", found=f"'{path.parent}'", fix="make it first")
    attempt = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        attempt.touch()
        attempt.unlink()
    except OSError as error:
        raise InputError(where, f"cannot be written: {error.strerror}", found=f"'{path}'") from None
    return path


def check_words(path: Path, words: Sequence[str], where: str = "--out") -> None:
    """Raises if a word cannot stand in the format of ``path``: word2vec ends a word by a space."""
    if path.suffix == ".safetensors":
        return
    for number, word in enumerate(words):
        if " " in word or "\n" in word:
            raise InputError(
                where, "a word that the word2vec formats cannot hold", found=f"{word!r} (id {number})",
                expected="words without a space", fix="write .safetensors",
            )  # fmt: skip


def write(matrix: OutputMatrix, words: Sequence[str], path: Path) -> None:
    """Writes a matrix and, in the word2vec formats, its words in order of ids; whole or not at all."""
    try:
        if path.suffix == ".safetensors":
            matrix.save(path)
        else:
            matrix.save_word2vec(path, words, binary=path.suffix == ".bin")
    except OSError as error:
        raise InputError(path, f"cannot be written: {error.strerror}") from None
