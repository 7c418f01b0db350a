"""The ids of all splits with their vocabulary, as a tokenizer makes them."""

from dataclasses import dataclass, field

import numpy as np

CHUNK = 1 << 20  # ids that are renumbered at a time, so that no second copy of a split is held


@dataclass
class TokenIds:
    """Ids of words or pieces.

    Args:
        words: the V words (or pieces), in order of ids.
        splits: the ids of 'train', 'valid' and 'test', one int32 array (tokens,) each.
        word_totals: for each split, its whitespace words plus one ``<eos>`` a line.
        end_of_line: the id of ``<eos>``.
        notes, warnings: what the user should know about the text. They name no path, since they are kept with the ids.
    """

    words: list[str]
    splits: dict[str, np.ndarray]
    word_totals: dict[str, int]
    end_of_line: int
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def sort_by_count(self) -> None:
        """Renumbers all ids, in place, by falling count in 'train'; words with equal counts keep their order."""
        size = len(self.words)
        order = np.argsort(-np.bincount(self.splits["train"], minlength=size), kind="stable")  # new id -> old id
        new = np.empty(size, dtype=np.int32)  # old id -> new id
        new[order] = np.arange(size, dtype=np.int32)
        for ids in self.splits.values():
            for start in range(0, len(ids), CHUNK):
                part = ids[start : start + CHUNK]
                part[:] = new[part]
        self.words = [self.words[i] for i in order.tolist()]
        self.end_of_line = int(new[self.end_of_line])
