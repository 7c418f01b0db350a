"""Vocabulary files, one word a line, and the words that they give the rows of an array."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embeddings.errors import InputError
from embeddings.statistics import hash_words

NAME = "vocabulary.txt"
NEEDS_WORDS = f"give the words of its rows, one a line, by `vocabulary` FILE or as {NAME} beside it"


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    r"""The words of a vocabulary file in order of its lines; only ``\n`` (or ``\r\n``) ends a line.

    Raises:
        InputError: the file cannot be read, is empty, or a word is not UTF-8.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        raise InputError(path, "there is no such file", expected="the words of the rows, one a line") from None
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror, expected="one word a line") from None
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(path, "the vocabulary file is empty", found="no word", expected="one word a line")
    return [decode_word(line.removesuffix(b"\r"), f"{path}:{i}") for i, line in enumerate(lines, start=1)]


def words_of_rows(
    path: Path,
    rows: int,
    wanted: Mapping[str, int],
    vocabulary: Path | None,
    vocabulary_hash: str | None,
    recipe: dict[str, Any],
) -> list[str]:
    """The word of each row of an array.

    Args:
        path: the array's file.
        rows: how many rows it has.
        wanted: the id of each word that is looked for.
        vocabulary: the file with the words of the rows; if None, ``vocabulary.txt`` beside the array, if there is one.
        vocabulary_hash: `hash_words` of the wanted words in order of ids.
        recipe: how the array was built; one built for the wanted words has row i for id i and needs no file.

    Raises:
        InputError: no file names the words, or the words, the rows and the recipe do not agree.
    """
    built_for = recipe.get("vocabulary_sha256")
    if vocabulary is None and built_for is not None and built_for == vocabulary_hash:
        words = sorted(wanted, key=wanted.__getitem__)
        size = recipe.get("vocabulary_size", len(words))
        if not rows == size == len(words):
            found, expected = f"{rows} rows", f"{size} by its recipe"
            raise InputError(path, "rows and vocabulary differ", found=found, expected=expected)
        return words
    if vocabulary is None and (beside := path.with_name(NAME)).is_file():
        vocabulary = beside
    words = [] if vocabulary is None else read_vocabulary(vocabulary)
    if words and words[0] not in wanted:  # where some editors put a mark of their own
        words[0] = words[0].removeprefix("\ufeff")
    if built_for is not None and (vocabulary is None or hash_words(words) != built_for):
        found = f"{vocabulary_hash}" if vocabulary is None else f"{hash_words(words)} of {vocabulary}"
        raise InputError(
            path, "a matrix built for another vocabulary is refused", found=f"vocabulary SHA-256 {found}",
            expected=built_for, fix=f"build it anew, or {NEEDS_WORDS}",
        )  # fmt: skip
    if vocabulary is None:
        raise InputError(path, "an array names no words", fix=NEEDS_WORDS)
    if len(words) != rows:
        found, expected = f"{len(words)} words", f"the {rows} rows of {path}"
        raise InputError(vocabulary, "words and rows differ", found=found, expected=expected)
    return words


def decode_word(word: bytes, where: str) -> str:
    """A word as text.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        found = f"{shown(word)}, byte {error.start + 1}"
        raise InputError(where, "a word that is not UTF-8", found=found, expected="UTF-8") from None


def shown(content: bytes) -> str:
    """The beginning of some bytes, fit for one line of a message."""
    return repr(content[:40])[1:]
