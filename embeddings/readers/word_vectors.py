"""What every reader hands on: the vectors of the wanted words, gathered row by row."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from embeddings.errors import InputError

logger = logging.getLogger("embeddings")

EXAMPLES = 5
LARGEST_DIM = 1 << 14
"""No model has vectors as long. A file of one such row would ask for V of them, and a gzip of it is small besides."""
LARGEST_RATIO = 32
"""Bound on the bytes of the rows kept, per byte of the file. A number takes four bytes in memory, at least two in text
and one in int8. Gzip packs vectors to a third; it packs to a thousandth only what is all alike."""
ROWS_BETWEEN_REPORTS = 4096
CUT_SHORT = "the file is cut short or its header is wrong: fetch it again"
"""The fix of each error about a header and rows that do not agree."""

Progress = Callable[[float, float], None]
"""Called as ``progress(done, in all)`` every few thousand rows."""


class Row(NamedTuple):
    """A row of a file: its word, its numbers (N,) float32, and where it stands."""

    word: str
    vector: np.ndarray
    where: str


class WordVectors:
    """The vectors of the wanted words that a file holds.

    Attributes:
        path: the file, for messages.
        wanted: the id of each word that is looked for.
        dim: N, the length of a row; 0 until a header or the first rows have told it.
        row_count: how many rows the file has, wanted or not.
        examples: the first few words of the file.
        duplicates: how many rows were passed over because their word had one already.
        not_finite: how many rows were passed over that hold NaN or infinity, and that nobody wants.
    """

    def __init__(
        self, path: Path, wanted: Mapping[str, int], dim: int | None = None, lowercase_fallback: bool = False
    ) -> None:
        self.path = path
        self.wanted = wanted
        self.dim = 0
        self.row_count = self.duplicates = self.not_finite = 0
        self.examples: list[str] = []
        self._asked_dim = dim
        self._rows: dict[int, np.ndarray] = {}
        # The best row for each lower-case form of a wanted word: of that form itself, or else the first in any case.
        self._lower_case = {word.lower() for word in wanted} if lowercase_fallback else frozenset[str]()
        self._fallbacks: dict[str, Row] = {}
        self._kept, self._most = 0, LARGEST_RATIO * path.stat().st_size + (1 << 20)

    @property
    def ids(self) -> list[int]:
        """The ids of the words found, in order of the file; those of the fallback come last."""
        return list(self._rows)

    @property
    def vectors(self) -> np.ndarray:
        """The rows of `ids`, (words found, N) float32."""
        return np.array(list(self._rows.values()), dtype=np.float32).reshape(len(self._rows), self.dim)

    def set_dim(self, dim: int) -> None:
        """Notes N as soon as it is known: a wrong N is refused before the rows are read."""
        if self._asked_dim not in (None, dim):
            raise InputError(
                self.path, "vectors of another dimension than asked for", found=dim, expected=self._asked_dim,
                fix=f"set `dim` to {dim}",
            )  # fmt: skip
        if dim > LARGEST_DIM:
            raise InputError(self.path, "rows too long", found=f"{dim:,} numbers", expected=f"at most {LARGEST_DIM:,}")
        self.dim = dim

    def wants(self, word: str, where: str) -> bool:
        """Counts one more row; True if its numbers are needed, which the caller then gives to `keep`."""
        self.row_count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(word)
        word_id = self.wanted.get(word)
        if word_id in self._rows:
            self.duplicates += 1
            if self.duplicates == 1:
                logger.warning("%s: duplicate word '%s'; the first row of a word is kept.", where, word)
            return False
        return word_id is not None or self._is_fallback(word)

    def keep(self, row: Row) -> None:
        """Keeps a wanted row, of an array of its own: a view would hold a whole buffer in memory.

        Raises:
            InputError: a value is not finite, or the rows kept are far larger than the file, which only a gzip made
                for that can bring about.
        """
        self._kept += row.vector.nbytes
        if self._kept > self._most:
            raise InputError(
                self.path, "unpacks to far more than vectors do", found=f"more than {self._most:,} bytes",
                fix="unpack it, if you trust it",
            )  # fmt: skip
        if self._is_fallback(row.word):
            self._fallbacks[row.word.lower()] = row
        if row.word in self.wanted:
            self._use(self.wanted[row.word], row)

    def pass_over(self, vector: np.ndarray) -> None:
        """Counts a row (N,) that nobody wants if it is not finite: the row does no harm, and the log tells of it."""
        self.not_finite += not np.isfinite(vector).all()

    def finish(self) -> Self:
        """Fills in the rows of the fallback; checks that the file has a row at all; says what was passed over."""
        if not self.row_count:
            expected = "a word and its numbers in each row"
            raise InputError(self.path, "holds no vectors", found="no row", expected=expected)
        for word, word_id in self.wanted.items():
            if word_id not in self._rows and (row := self._fallbacks.get(word.lower())):
                self._use(word_id, row)
        if self.duplicates > 1:
            what = "rows of words that had one already were passed over"
            logger.warning("%s: %s %s.", self.path, self.duplicates, what)
        if self.not_finite:
            what = "rows with NaN or infinity were passed over; no word of the vocabulary needs them"
            logger.warning("%s: %s %s.", self.path, self.not_finite, what)
        return self

    def _is_fallback(self, word: str) -> bool:
        """Whether a word is the best one so far of its lower-case form."""
        lower = word.lower()
        if lower not in self._lower_case:
            return False
        best = self._fallbacks.get(lower)
        return best is None or (word == lower and best.word != lower)

    def _use(self, word_id: int, row: Row) -> None:
        finite = np.isfinite(row.vector)
        if not finite.all():
            position = int(np.argmin(finite))
            what = f"value {position + 1} of the word '{row.word}' is not finite"
            raise InputError(row.where, what, found=row.vector[position], expected="a finite number")
        self._rows[word_id] = row.vector
