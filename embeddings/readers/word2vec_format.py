"""The word2vec formats, read as gensim's ``load_word2vec_format`` does, and GloVe's text without a header.

Text: ``V N``, then a line a word: the word, a space, N numbers with spaces between.
Binary: the same first line, then for each word its bytes, a space, N little-endian float32, maybe a newline.
`word2vec_text` and `word2vec_binary` read the rows; here a file is told to be the one or the other.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from embeddings.errors import InputError

SAMPLE = 1 << 16
"""Bytes looked at to tell text from binary."""
LONGEST_LINE = 1 << 24
"""Bytes; a row of 500,000 numbers fits."""
ROWS_BETWEEN_REPORTS = 4096
CUT_SHORT = "the file is cut short or its header is wrong: fetch it again"
HEADER = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s*")
NUMBER_CHARACTERS = b"0123456789.eE+- "
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Layout:
    """How the rows of a word2vec file stand in it.

    Args:
        binary: numbers as bytes instead of digits.
        header: the V and N of the first line; None for a file without one.
    """

    binary: bool
    header: tuple[int, int] | None


def detect(path: Path, sample: bytes, format: str) -> Layout:
    """The layout of a file by its first bytes; ``format`` decides where 'auto' would guess wrong.

    Raises:
        InputError: the bytes contradict the format asked for, or they are neither text nor binary vectors.
    """
    first, _, rest = sample.removeprefix(codecs.BOM_UTF8).partition(b"\n")
    match = HEADER.fullmatch(first)
    if match is None:
        _require_text(path, first, sample, format)
        return Layout(binary=False, header=None)
    header = int(match[1]), int(match[2])
    line = rest.partition(b"\n")[0]
    is_text = is_text_row(line, header[1])
    is_binary = not is_text and _looks_binary(line, rest)
    if format == "text" and is_binary:
        raise InputError(
            f"{path}:2", "a binary file read as text", found="bytes", expected="digits", fix="--format binary"
        )
    if format == "binary" and is_text:
        raise InputError(
            f"{path}:2", "a text file read as binary", found="digits", expected="bytes", fix="--format text"
        )
    named_binary = path.name.endswith((".bin", ".bin.gz")) and not is_text
    guess = is_binary or named_binary
    return Layout(binary=guess if format == "auto" else format == "binary", header=header)


def check_claim(path: Path, layout: Layout, largest_size: int) -> None:
    """Holds the header against the most bytes that the file can have, before anything relies on it."""
    if layout.header is None:
        return
    rows, dim = layout.header
    if not rows or not dim:
        raise InputError(
            f"{path}:1", "an empty header", found=f"{rows} rows of {dim} numbers", expected="at least 1"
        )
    # The shortest row: no word, a space, four bytes a number; in text a space and a digit each, a newline.
    row_size = 4 * dim + 1 if layout.binary else 2 * dim + 1
    if rows * row_size - 1 > largest_size:
        raise InputError(
            f"{path}:1", "the header claims more than the file holds",
            found=f"{rows:,} rows of {dim:,} numbers",
            expected=f"at most {(largest_size + 1) // row_size:,} rows in {largest_size:,} bytes",
            fix=CUT_SHORT,
        )  # fmt: skip


def decoded(word: bytes, where: str) -> str:
    """A word as text.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            where,
            "a word that is not UTF-8",
            found=f"{shown(word)}, byte {error.start + 1}",
            expected="UTF-8",
        ) from None


def shown(content: bytes) -> str:
    """The beginning of some bytes, fit for one line of a message."""
    return repr(content[:40])[1:]


def is_text_row(line: bytes, dim: int) -> bool:
    """Whether a line is a word and exactly ``dim`` numbers."""
    values = line.rstrip().split(b" ")[1:]
    return len(values) == dim and all(map(is_number, values))


def is_number(value: bytes) -> bool:
    """Whether some bytes are a number, finite or not."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def _require_text(path: Path, first: bytes, sample: bytes, format: str) -> None:
    """Raises unless a file that begins without a header can be GloVe text."""
    if format == "binary":
        raise InputError(
            f"{path}:1", "no word2vec header", found=shown(first), expected="the two numbers V and N"
        )
    if _looks_binary(first, sample):
        raise InputError(f"{path}:1", "not text", found=shown(first), expected="a word and its numbers")


def _looks_binary(line: bytes, rest: bytes) -> bool:
    """Whether a row and what follows it are no text: few digits among the numbers, and bytes that no text has.

    One wrong byte among digits leaves a text file a text file, so that the error names its line.
    """
    values = line.partition(b" ")[2]
    digits = len(values) - len(values.translate(None, NUMBER_CHARACTERS))
    few_digits = 2 * digits <= len(values)
    return few_digits and (b"\0" in rest or CONTROL.search(line) is not None or not _is_utf8(values))


def _is_utf8(content: bytes) -> bool:
    """Whether some bytes are UTF-8, as far as they go."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.end == len(content)
    return True
