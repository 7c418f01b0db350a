"""word2vec binary: a line ``V N``, then for each word its bytes, a space, N little-endian float32, maybe a newline."""

from collections.abc import Callable
from typing import IO

import numpy as np

from embeddings.errors import InputError
from embeddings.readers.vocabulary import decode_word
from embeddings.readers.word_vectors import CUT_SHORT, ROWS_BETWEEN_REPORTS, Row, WordVectors

CHUNK = 1 << 20
"""Bytes read at a time."""
LONGEST_WORD = 1 << 12
"""Bytes."""


def read_binary(stream: IO[bytes], header: tuple[int, int], found: WordVectors, report: Callable[[], None]) -> None:
    """Reads all rows of a binary file from its start.

    Args:
        stream: the unpacked file, at its start.
        header: the V and N of its first line.
        found: where the wanted rows go.
        report: called every few thousand rows.

    Raises:
        InputError: a row is damaged, or there are not as many as the header says.
    """
    rows, dim = header
    found.set_dim(dim)
    stream.readline(CHUNK)
    chunk, start = b"", 0
    for number in range(1, rows + 1):
        where = f"{found.path}: row {number}"
        while (space := _end_of_word(chunk, start, where)) is None or len(chunk) - space - 1 < 4 * dim:
            more = stream.read(CHUNK)
            if not more:
                raise InputError(
                    where, "the file is truncated", found=f"its end after {number - 1} whole rows",
                    expected=f"{rows} rows by the header",
                    fix=CUT_SHORT,
                )  # fmt: skip
            chunk, start = chunk[start:] + more, 0
        # Some programs end a row by a newline and some do not; it then stands before the next word.
        word = decode_word(chunk[start:space].lstrip(b"\n"), where)
        vector = np.frombuffer(chunk, "<f4", dim, offset=space + 1)
        if found.wants(word, where):
            found.keep(Row(word, vector.astype(np.float32), where))
        else:
            found.pass_over(vector)
        start = space + 1 + 4 * dim
        if number % ROWS_BETWEEN_REPORTS == 0:
            report()
    if (chunk[start:] + stream.read(CHUNK)).strip(b"\n"):
        what, further = "the header and the rows differ", "bytes after the last row"
        raise InputError(f"{found.path}:1", what, found=further, expected=f"{rows} rows")


def _end_of_word(chunk: bytes, start: int, where: str) -> int | None:
    """Where the space after a word stands; None if more of the file must be read to tell."""
    space = chunk.find(b" ", start, start + LONGEST_WORD)
    if space < 0 and len(chunk) - start >= LONGEST_WORD:
        raise InputError(where, "no end of the word", found=f"{LONGEST_WORD} bytes", expected="a word and a space")
    return space if space >= 0 else None
