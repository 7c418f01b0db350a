"""word2vec text: a line ``V N``, then a line a word: the word, a space, N numbers with spaces between.

GloVe's text is the same without the first line.
"""

import codecs
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from embeddings.errors import InputError
from embeddings.readers.vocabulary import decode_word, shown
from embeddings.readers.word_vectors import CUT_SHORT, ROWS_BETWEEN_REPORTS, Row, WordVectors

logger = logging.getLogger("embeddings")

LONGEST_LINE = 1 << 24
"""Bytes; a row of 500,000 numbers fits."""
NUMBER_CHARACTERS = b"0123456789.eE+- "
SAMPLED_LINES = 20


def read_text(
    stream: IO[bytes], header: tuple[int, int] | None, found: WordVectors, report: Callable[[], None]
) -> None:
    """Reads all rows of a text file from its start.

    Args:
        stream: the unpacked file, at its start.
        header: the V and N of its first line; None for GloVe's text, which has no such line.
        found: where the wanted rows go.
        report: called every few thousand rows.

    Raises:
        InputError: a row is damaged, or there are not as many as the header says.
    """
    rows, dim = header or (None, _usual_width(stream))
    if dim:
        found.set_dim(dim)
    if header:
        stream.readline(LONGEST_LINE)
    else:
        logger.info("%s: no header; read as GloVe text.", found.path)
    spaced = 0
    for number, line in _lines(stream, found.path, 2 if header else 1):
        where = f"{found.path}:{number}"
        if found.row_count == rows:
            raise InputError(where, "the header and the rows differ", found="a further row", expected=f"{rows} rows")
        spaced += " " in _read_row(line, found, where)
        if found.row_count % ROWS_BETWEEN_REPORTS == 0:
            report()
    if rows is not None and found.row_count < rows:
        raise InputError(
            f"{found.path}:1", "the header and the rows differ", found=f"{found.row_count} rows",
            expected=f"{rows} by the header", fix=CUT_SHORT,
        )  # fmt: skip
    if spaced:
        logger.info("%s: %s words have a space in them.", found.path, spaced)


def is_text_row(line: bytes, dim: int) -> bool:
    """Whether a line is a word and ``dim`` numbers."""
    values = line.rstrip().rsplit(b" ", dim)[1:]
    return len(values) == dim and all(map(is_number, values))


def is_number(value: bytes) -> bool:
    """Whether some bytes are a number, finite or not."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def _usual_width(stream: IO[bytes]) -> int:
    """N as most of the first lines have it: one of them may be damaged, or its word may have a space in it."""
    widths = Counter[int]()
    while widths.total() < SAMPLED_LINES and 0 < len(line := stream.readline(LONGEST_LINE + 1)) <= LONGEST_LINE:
        widths[line.rstrip().count(b" ")] += 1
    stream.seek(0)
    return max(widths, key=widths.__getitem__, default=0)


def _read_row(line: bytes, found: WordVectors, where: str) -> str:
    """Checks a row and keeps it if it is wanted; only then, or if it looks wrong, its numbers are parsed."""
    word_bytes, values = _split(line, found.dim, where)
    word = decode_word(word_bytes, where)
    wanted = found.wants(word, where)
    if wanted or values.translate(None, NUMBER_CHARACTERS):
        vector = _parse(values, found.dim, word, where)
        if wanted:
            found.keep(Row(word, vector, where))
        else:
            found.pass_over(vector)
    return word


def _split(line: bytes, dim: int, where: str) -> tuple[bytes, bytes]:
    """The word and the N numbers of a row; a word may have spaces in it, as ``. . .`` in GloVe 840B."""
    word, _, values = line.partition(b" ")
    width = values.count(b" ") + 1 if values else 0
    if width > dim > 0:
        word = line.rsplit(b" ", dim)[0]
        last = word.rpartition(b" ")[2]
        if last and not is_number(last):  # else the row has more than N numbers
            return word, line[len(word) + 1 :]
    if width != dim or not dim:
        expected = dim or "a word and its numbers"
        raise InputError(where, "a row of another width", found=f"{width} numbers", expected=expected)
    return word, values


def _parse(values: bytes, dim: int, word: str, where: str) -> np.ndarray:
    """The numbers of a row (N,) float32, finite or not."""
    pieces = values.split(b" ")
    try:
        numbers = np.fromiter(map(float, pieces), np.float64, dim)
    except ValueError:
        number, wrong = next((i, value) for i, value in enumerate(pieces, 1) if not is_number(value))
        what = f"value {number} of the word '{word}' is no number"
        raise InputError(where, what, found=shown(wrong), expected="a finite number") from None
    with np.errstate(over="ignore"):  # 1e39 becomes inf and is refused as that
        return numbers.astype(np.float32)


def _lines(stream: IO[bytes], path: Path, number: int) -> Iterator[tuple[int, bytes]]:
    """The numbered lines without trailing white space; blank ones are passed over at the end only."""
    blank = None
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            found = f"more than {LONGEST_LINE:,} bytes"
            raise InputError(f"{path}:{number}", "a line too long for a row of numbers", found=found)
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        line = line.rstrip()
        if not line:
            blank = blank or number
        elif blank:
            what, expected = "a blank line between rows", "a word and its numbers"
            raise InputError(f"{path}:{blank}", what, found="nothing", expected=expected)
        else:
            yield number, line
        number += 1
