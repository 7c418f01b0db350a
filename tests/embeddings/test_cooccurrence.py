"""Co-occurrence counts against a plain loop over the text."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array

from embeddings import InputError
from embeddings.methods import cooccurrence

END = 0


def count_by_loops(ids: np.ndarray, size: int, window: int, context: str, weight, lines: bool) -> np.ndarray:
    counts = np.zeros((size, size))
    line = np.cumsum([0, *(ids[:-1] == END)])
    for i, word in enumerate(ids):
        for j, other in enumerate(ids):
            distance = i - j if context == "left" else abs(i - j)
            if 1 <= distance <= window and (not lines or line[i] == line[j]):
                counts[word, other] += weight(distance, window)
    return counts


WEIGHTS = {
    "harmonic": lambda d, window: float(Fraction(1, d)),
    "linear": lambda d, window: float(Fraction(window - d + 1, window)),
    "flat": lambda d, window: 1.0,
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("context", ["symmetric", "left"])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("chunk", [1 << 20, 7, 29])
def test_counts_are_those_of_a_loop(
    weights: str, context: str, lines: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks shorter than the text, with a last one shorter than the window, and one that is longer give the same."""
    monkeypatch.setattr(cooccurrence, "CHUNK", chunk)
    ids = np.random.default_rng(1).integers(0, 6, 60).astype(np.int32)
    counts = cooccurrence.count(ids, 8, window=4, context=context, weights=weights, end_of_line=END if lines else None)
    expected = count_by_loops(ids, 8, 4, context, WEIGHTS[weights], lines)
    np.testing.assert_allclose(counts.toarray(), expected, atol=1e-12)
    assert counts.shape == (8, 8)
    assert counts.has_sorted_indices
    assert counts.nnz == np.count_nonzero(expected)


def test_left_context_describes_the_predicted_word() -> None:
    """In "the cat", the row of cat counts the; the row of the counts nothing."""
    the, cat = 0, 1
    counts = cooccurrence.count(np.array([the, cat]), 2, window=1, context="left").toarray()
    assert counts.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("ids", [[0, 1, 3], [0, -1, 2], [0.0, 1.0, 2.0]], ids=["too large", "negative", "floats"])
def test_wrong_ids_are_an_error(ids: list[float]) -> None:
    with pytest.raises(InputError, match=r"ids: not those of 3 words .*expected whole numbers from 0 to 2"):
        cooccurrence.count(np.array(ids), 3, window=1)


def test_progress_ends_at_the_whole() -> None:
    calls: list[tuple[float, float]] = []
    cooccurrence.count(np.arange(10), 10, progress=lambda what, done, total: calls.append((done, total)))
    assert calls[-1] == (10, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 5}, r"window: longer than the corpus \(found 5, expected less than 5\)"),
        ({"window": 0}, "window: the window must be positive"),
        ({"context": "right"}, "context: .*found right, expected symmetric or left"),
        ({"weights": "cubic"}, "weights: .*found cubic, expected harmonic or linear or flat"),
    ],
)
def test_unusable_options_are_errors(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cooccurrence.count(np.arange(5), 5, **{"window": 2} | options)


def sums_of_distances(ids: np.ndarray, size: int, weight: np.ndarray, line: np.ndarray) -> csr_array:
    """One sparse matrix for each distance, added up: the kernel rounds as scipy does."""
    total = csr_array((size, size), dtype=np.float64)
    for distance, value in enumerate(weight, start=1):
        left, right = ids[:-distance], ids[distance:]
        same = line[:-distance] == line[distance:]
        left, right = left[same], right[same]
        total = total + coo_array((np.full(len(left), value), (right, left)), shape=(size, size)).tocsr()
    return total


@pytest.mark.parametrize("lines", [False, True])
def test_counts_have_the_bits_of_sums_of_sparse_matrices(lines: bool) -> None:
    ids = np.minimum(np.random.default_rng(1).zipf(1.2, 30_000), 500) - 1
    line = np.cumsum(ids == END) - (ids == END) if lines else np.zeros(len(ids))
    counts = cooccurrence.count(ids, 500, window=30, context="left", end_of_line=END if lines else None)
    expected = sums_of_distances(ids, 500, 1 / np.arange(1, 31), line)
    expected.sort_indices()
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(expected, name))
