"""What the readers of vector files hand on: the wanted words' rows, in order of the file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from embeddings.errors import InputError

logger = logging.getLogger("embeddings")

EXAMPLES = 5
LARGEST_DIM = 1 << 14
"""No model has vectors as long; a file of one such row would ask for V of them, and a gzip of it is small besides."""
LARGEST_RATIO = 32
"""Of the rows kept to the file's size. Text takes at least two bytes for the four of a number, int8 one; gzip packs
vectors to a third, and no more than all alike ones to a thousandth."""

ReadProgress = Callable[[float, float], None]
"""Called as ``progress(bytes read, bytes in all)`` every few thousand rows."""


class FoundVectors:
    """The wanted words' rows of a file of vectors.

    Attributes:
        path: the file, for messages.
        dim: N, the length of a row; 0 until a header or the first row has told it.
        row_count: how many rows the file has, wanted or not.
        ids: the ids of the words found, in order of the file.
        examples: the first few words of the file.
        duplicates: how many rows were passed over because their word had one already.
    """

    def __init__(self, path: Path, asked_dim: int | None = None) -> None:
        self.path = path
        self.dim = 0
        self._asked_dim = asked_dim
        self.row_count = 0
        self.ids: list[int] = []
        self.examples: list[str] = []
        self.duplicates = 0
        self._rows: list[np.ndarray] = []
        self._seen: set[int] = set()
        self._kept = 0
        self._most = LARGEST_RATIO * path.stat().st_size + (1 << 20)

    @property
    def vectors(self) -> np.ndarray:
        """The rows kept, (words found, N) float32."""
        return np.array(self._rows, dtype=np.float32).reshape(len(self._rows), self.dim)

    def set_dim(self, dim: int) -> None:
        """Notes the dimension as soon as it is known, so that a wrong one is told before the file is read."""
        if self._asked_dim not in (None, dim):
            raise InputError(
                self.path, "vectors of another dimension than asked for", found=dim, expected=self._asked_dim,
                fix=f"ask for {dim}, or for no dimension",
            )  # fmt: skip
        if dim > LARGEST_DIM:
            raise InputError(
                self.path, "rows too long", found=f"{dim:,} numbers", expected=f"at most {LARGEST_DIM:,}"
            )
        self.dim = dim

    def wants(self, word: str, word_id: int | None, where: str) -> bool:
        """Counts one more row; True if it is to be kept, which is if it is wanted and its word's first."""
        self.row_count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(word)
        if word_id is None:
            return False
        if word_id in self._seen:
            self.duplicates += 1
            if self.duplicates == 1:
                logger.warning("%s: duplicate word '%s'; the first row of a word is kept.", where, word)
            return False
        self._seen.add(word_id)
        return True

    def keep(self, word_id: int, row: np.ndarray) -> None:
        """Keeps a row (N,); an array of its own, not a view that would hold a whole buffer in memory.

        Raises:
            InputError: the rows kept are far larger than the file, which only a gzip made for that can bring about.
        """
        self._kept += row.nbytes
        if self._kept > self._most:
            raise InputError(
                self.path, "unpacks to far more than vectors do", found=f"more than {self._most:,} bytes",
                fix="unpack it, if you trust it",
            )  # fmt: skip
        self.ids.append(word_id)
        self._rows.append(row)

    def finish(self) -> FoundVectors:
        """Checks that there was a row at all, and says how many duplicates there were."""
        if not self.row_count:
            raise InputError(
                self.path, "holds no vectors", found="no row", expected="a word and its numbers in each row"
            )
        if self.duplicates > 1:
            logger.warning(
                "%s: %s rows of words that had one already were passed over.", self.path, self.duplicates
            )
        return self


def require_finite(row: np.ndarray, where: str, word: str) -> None:
    """Raises at the first value of a row (N,) that is NaN or infinite as float32."""
    finite = np.isfinite(row)
    if not finite.all():
        position = int(np.argmin(finite))
        raise InputError(
            where,
            f"value {position + 1} of the word '{word}' is not finite",
            found=row[position],
            expected="a finite number",
        )
