"""What a builder may know of a corpus."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embeddings.errors import InputError


def hash_words(words: Sequence[str]) -> str:
    """SHA-256 of a vocabulary: its words in order of ids, one a line."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


@dataclass(frozen=True)
class CorpusStatistics:
    """Plain facts about the train split, enough to build any output matrix.

    Args:
        words: the V words in order of ids (no two alike).
        counts: (V,) how often each occurs in the train split.
        ids: (tokens,) the train split as one stream of ids; None if only the vocabulary is known.
        end_of_line: the id that ends each line (``<eos>``); None if there is none.
        client: of the Dask cluster that counts which words stand together (`embeddings.dask_cluster`); None to count in
            this process. The counts are the same.
    """

    words: Sequence[str]
    counts: np.ndarray
    ids: np.ndarray | None = None
    end_of_line: int | None = None
    client: Any = None
    vocabulary_hash: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary_hash", hash_words(self.words))

    def __len__(self) -> int:
        """V, the vocabulary size."""
        return len(self.words)

    def text(self, method: str) -> np.ndarray:
        """The ids (tokens,), which a method needs that reads the text; raises InputError if they are not known."""
        if self.ids is None:
            what, fix = "needs the train split, not only its vocabulary", "pass statistics with ids"
            raise InputError(method, what, fix=fix)
        return self.ids
