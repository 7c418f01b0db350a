"""The rows of word2vec binary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO

import numpy as np

from embeddings.errors import InputError
from embeddings.readers.found_vectors import FoundVectors, require_finite
from embeddings.readers.word2vec_format import CUT_SHORT, LONGEST_LINE, ROWS_BETWEEN_REPORTS, Layout, decoded

CHUNK = 1 << 20
"""Bytes read at a time."""
LONGEST_WORD = 1 << 12
"""Bytes."""


def read_binary(
    stream: IO[bytes],
    layout: Layout,
    found: FoundVectors,
    wanted: Mapping[str, int],
    report: Callable[[], None],
) -> None:
    """Reads all rows of a binary file from its start; ``report`` is called every few thousand rows."""
    assert layout.header is not None  # detect() asks for one
    rows, dim = layout.header
    found.set_dim(dim)
    stream.readline(LONGEST_LINE)
    chunk, start = b"", 0
    for number in range(1, rows + 1):
        where = f"{found.path}: row {number}"
        while (space := _end_of_word(chunk, start, where)) is None or len(chunk) - space - 1 < 4 * dim:
            more = stream.read(CHUNK)
            if not more:
                raise InputError(
                    where, "the file is truncated", found=f"its end after {number - 1} whole rows",
                    expected=f"{rows} rows by the header", fix=CUT_SHORT,
                )  # fmt: skip
            chunk, start = chunk[start:] + more, 0
        # Some programs end a row by a newline and some do not; it then stands before the next word.
        word = decoded(chunk[start:space].lstrip(b"\n"), where)
        row = np.frombuffer(chunk, "<f4", dim, offset=space + 1)
        require_finite(row, where, word)
        word_id = wanted.get(word)
        if found.wants(word, word_id, where) and word_id is not None:
            found.keep(word_id, row.astype(np.float32))
        start = space + 1 + 4 * dim
        if number % ROWS_BETWEEN_REPORTS == 0:
            report()
    if (chunk[start:] + stream.read(CHUNK)).strip(b"\n"):
        further = "bytes after the last row"
        raise InputError(
            f"{found.path}:1", "the header and the rows differ", found=further, expected=f"{rows} rows"
        )


def _end_of_word(chunk: bytes, start: int, where: str) -> int | None:
    """Where the space after a word stands; None if more of the file must be read to tell."""
    space = chunk.find(b" ", start, start + LONGEST_WORD)
    if space < 0 and len(chunk) - start >= LONGEST_WORD:
        raise InputError(
            where, "no end of the word", found=f"{LONGEST_WORD} bytes", expected="a word and a space"
        )
    return space if space >= 0 else None
