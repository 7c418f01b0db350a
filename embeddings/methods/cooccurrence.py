"""Co-occurrence counts of a stream of ids, as a sparse matrix."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import dask_cluster
from embeddings.errors import InputError
from embeddings.registry import Progress
from embeddings.threads import map_in_threads

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CONTEXTS = ("symmetric", "left")
CHUNK = 1 << 20
"""Tokens that are counted at a time: the pairs of one chunk for each thread are all that is held beside the sum.

The sums are rounded at its borders, so that another value gives other last bits.
"""
BLOCKS = 8
"""Blocks of rows that a cluster adds up side by side."""


def count(
    ids: np.ndarray,
    vocabulary_size: int,
    *,
    window: int = 5,
    nearest: int = 1,
    context: str = "symmetric",
    weights: str = "harmonic",
    end_of_line: int | None = None,
    progress: Progress | None = None,
    client: Any = None,
) -> csr_array:
    """Counts how often each word stands near each other.

    Row = the word that is described (in an output matrix: predicted), column = its context. With the context
    ``left`` the columns are the words before it, which is all that a language model sees when it predicts the
    word; ``symmetric`` adds those after it.

    Args:
        ids: (tokens,) the stream.
        vocabulary_size: V.
        window: the largest distance.
        nearest: the smallest distance; the same as ``window`` counts one distance alone.
        context: ``symmetric`` or ``left``.
        weights: what a pair at distance d counts: ``harmonic`` 1/d, ``linear`` (window − d + 1)/window, ``flat`` 1.
        end_of_line: if given, pairs that stand in two lines do not count; this id is the last of its line.
        progress: called with the tokens done.
        client: of the cluster that counts (`embeddings.dask_cluster`); None to count in this process. Both give the
            same bytes.

    Returns:
        (V, V) float64 in CSR format, sorted indices.

    Raises:
        InputError: an option is unknown, the window is longer than the stream, or ids are not those of V words.
    """
    from scipy.sparse import csr_array

    # The kernel does not look: it would write beyond its arrays.
    if len(ids) and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= vocabulary_size):
        found, expected = f"{ids.min()} to {ids.max()}", f"whole numbers from 0 to {vocabulary_size - 1:,}"
        raise InputError("ids", f"not those of {vocabulary_size:,} words", found=found, expected=expected)
    if context not in CONTEXTS:
        raise InputError("context", "unknown context", found=context, expected=" or ".join(CONTEXTS))
    if window < 1:
        raise InputError("window", "the window must be positive", found=window, expected="at least 1")
    if not 1 <= nearest <= window:
        raise InputError("nearest", "not a distance of the window", found=nearest, expected=f"1 to {window}")
    if window >= len(ids):
        raise InputError("window", "longer than the corpus", found=window, expected=f"less than {len(ids)}")
    distance = np.arange(1, window + 1)  # (window,)
    known = {"harmonic": 1 / distance, "linear": (window - distance + 1) / window, "flat": np.ones(window)}
    if nearest > 1:
        known = {name: np.where(distance < nearest, 0, weight) for name, weight in known.items()}
    if weights not in known:
        raise InputError("weights", "unknown distance weights", found=weights, expected=" or ".join(known))
    part = functools.partial(
        _count_segment, vocabulary_size=vocabulary_size, weight=known[weights], end_of_line=end_of_line
    )
    starts = range(0, len(ids), CHUNK)
    # Pairs belong to the chunk of their left word; the right one may stand up to a window beyond it.
    segments = ((np.asarray(ids[start : start + CHUNK + window]), min(CHUNK, len(ids) - start)) for start in starts)

    def counted(chunks: int) -> None:
        if progress:
            progress("counting pairs", min(chunks * CHUNK, len(ids)), len(ids))

    if client is None:
        total = csr_array((vocabulary_size, vocabulary_size), dtype=np.float64)
        for number, counts in enumerate(map_in_threads(lambda segment: part(*segment), segments), start=1):
            total = total + counts
            counted(number)
    else:
        total = dask_cluster.ordered_sum(client, part, segments, _row_blocks(ids, vocabulary_size), counted)
    if context == "symmetric":
        total = csr_array(total + total.T)
    total.sort_indices()
    return total


def _count_segment(
    segment: np.ndarray, starts: int, vocabulary_size: int, weight: np.ndarray, end_of_line: int | None
) -> csr_array:
    """Left contexts (V, V) of the pairs whose left word is among the first ``starts`` of the segment."""
    from scipy.sparse import csr_array

    from embeddings.methods.count_kernel import left_contexts

    line = [] if end_of_line is None else np.cumsum(segment == end_of_line) - (segment == end_of_line)
    ids, lines = np.ascontiguousarray(segment, np.int32), np.asarray(line, np.int32)
    entries = left_contexts(ids, starts, lines, weight.astype(np.float64), vocabulary_size)
    return csr_array(entries, shape=(vocabulary_size, vocabulary_size))


def _row_blocks(ids: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """Where blocks of rows with about as many pairs each begin and end: up to (BLOCKS + 1,)."""
    size = np.cumsum(np.sqrt(np.bincount(ids, minlength=vocabulary_size)))  # a word has some √count different contexts
    inner = np.searchsorted(size, size[-1] * np.arange(1, BLOCKS) / BLOCKS)
    return np.unique([0, *inner, vocabulary_size])
