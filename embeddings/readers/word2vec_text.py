"""The rows of word2vec text, and of GloVe text."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from embeddings.errors import InputError
from embeddings.readers.found_vectors import FoundVectors, require_finite
from embeddings.readers.word2vec_format import (
    CUT_SHORT,
    LONGEST_LINE,
    NUMBER_CHARACTERS,
    ROWS_BETWEEN_REPORTS,
    Layout,
    decoded,
    is_number,
    shown,
)

logger = logging.getLogger("embeddings")

PIECES_AT_A_TIME = 4096


def read_text(
    stream: IO[bytes],
    layout: Layout,
    found: FoundVectors,
    wanted: Mapping[str, int],
    report: Callable[[], None],
) -> None:
    """Reads all rows of a text file from its start; ``report`` is called every few thousand rows."""
    rows = None
    if layout.header:
        rows, dim = layout.header
        found.set_dim(dim)
        stream.readline(LONGEST_LINE)
    else:
        logger.info("%s: no header; read as GloVe text.", found.path)
    for number, line in _lines(stream, found.path, 2 if layout.header else 1):
        where = f"{found.path}:{number}"
        if found.row_count == rows:
            raise InputError(
                where, "the header and the rows differ", found="a further row", expected=f"{rows} rows"
            )
        _read_row(line, found, wanted, where)
        if found.row_count % ROWS_BETWEEN_REPORTS == 0:
            report()
    if rows is not None and found.row_count < rows:
        raise InputError(
            f"{found.path}:1", "the header and the rows differ", found=f"{found.row_count} rows",
            expected=f"{rows} by the header", fix=CUT_SHORT,
        )  # fmt: skip


def _read_row(line: bytes, found: FoundVectors, wanted: Mapping[str, int], where: str) -> None:
    """Checks a row and keeps it if it is wanted; only then, or if it looks wrong, its numbers are parsed."""
    word_bytes, _, values = line.partition(b" ")
    width = values.count(b" ") + 1 if values else 0
    if width and not found.dim:
        found.set_dim(width)
    if width != found.dim or not width:
        raise _width_error(where, line, width, found.dim)
    word = decoded(word_bytes, where)
    word_id = wanted.get(word)
    kept = found.wants(word, word_id, where)
    if kept or values.translate(None, NUMBER_CHARACTERS):
        row = _parsed(values, where, word)
        if kept and word_id is not None:
            found.keep(word_id, row)


def _lines(stream: IO[bytes], path: Path, number: int) -> Iterator[tuple[int, bytes]]:
    """The numbered lines without trailing white space; blank ones are passed over at the end only."""
    blank = None
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"{path}:{number}",
                "a line too long for a row of numbers",
                found=f"more than {LONGEST_LINE:,} bytes",
            )
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        line = line.rstrip()
        if line and blank:
            raise InputError(
                f"{path}:{blank}",
                "a blank line between rows",
                found="nothing",
                expected="a word and its numbers",
            )
        if line:
            yield number, line
        else:
            blank = blank or number
        number += 1


def _parsed(values: bytes, where: str, word: str) -> np.ndarray:
    """The numbers of a row (N,) float32."""
    try:
        numbers = np.fromiter(map(float, _pieces(values)), np.float64, values.count(b" ") + 1)
    except ValueError:
        number, wrong = next((i, value) for i, value in enumerate(_pieces(values), 1) if not is_number(value))
        raise InputError(
            where,
            f"value {number} of the word '{word}' is no number",
            found=shown(wrong),
            expected="a finite number",
        ) from None
    with np.errstate(over="ignore"):  # 1e39 becomes inf and is refused as that
        row = numbers.astype(np.float32)
    require_finite(row, where, word)
    return row


def _pieces(line: bytes) -> Iterator[bytes]:
    """What stands between the spaces of a line; a part of it at a time, since a short bytes object takes 34 bytes."""
    while True:
        pieces = line.split(b" ", PIECES_AT_A_TIME)
        if len(pieces) <= PIECES_AT_A_TIME:
            yield from pieces
            return
        line = pieces.pop()
        yield from pieces


def _width_error(where: str, line: bytes, width: int, dim: int) -> InputError:
    """The error for a row of another width; says where its word seems to have a space in it."""
    extra = width - dim
    if 0 < extra < 8:
        *word, values = line.split(b" ", extra + 1)
        if not is_number(word[-1]) and all(map(is_number, _pieces(values))):
            return InputError(
                where, "a row of another width: its word has a space in it",
                found=f"{shown(b' '.join(word))} and {dim} numbers",
                expected=f"one word and {dim} numbers", fix="take the row out, or write the word without spaces",
            )  # fmt: skip
    return InputError(
        where, "a row of another width", found=f"{width} numbers", expected=dim or "a word and its numbers"
    )
