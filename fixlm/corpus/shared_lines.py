"""Lines of valid and test that are in train too: the model has seen them, and its perplexity on them misleads."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

MINIMUM_TOKENS = 5
"""Shorter lines do not count: blank ones, headings and the like recur in any text."""
MINIMUM_SHARE = 0.5
"""Of the lines. WikiText-2 shares 12 % of its lines, which are headings; the built-in sample shares none."""


def warnings_of_shared_lines(splits: Mapping[str, np.ndarray], end_of_line: int) -> list[str]:
    """A line for each of valid and test that shares most of its lines with train.

    Args:
        splits: the ids of each split, (tokens,) int32.
        end_of_line: the id that ends a line.
    """
    hashes = {split: Counter(_hashes(splits[split], end_of_line)) for split in ("valid", "test")}
    # Train, the large split, goes by line by line: only hashes of the other two are held.
    seen = {*hashes["valid"], *hashes["test"]}.intersection(_hashes(splits["train"], end_of_line))
    warnings = []
    for split, counts in hashes.items():
        share = sum(counts[each] for each in seen) / max(counts.total(), 1)
        if share > MINIMUM_SHARE:
            what = f"{split} split: {100 * share:.0f} % of its lines are in the train split too"
            means = "so its perplexity says little about new text"
            warnings.append(f"{what}, {means}. Fix: give this split a text of its own")
    return warnings


def _hashes(ids: np.ndarray, end_of_line: int) -> Iterator[int]:
    """A hash of 64 bits for each line that is long enough."""
    ends = np.append(np.flatnonzero(ids == end_of_line), len(ids))  # the last line may have no end
    starts = np.concatenate([[0], ends[:-1] + 1])
    long = ends - starts >= MINIMUM_TOKENS
    for start, end in zip(starts[long], ends[long], strict=True):
        yield hash(ids[start:end].tobytes())
