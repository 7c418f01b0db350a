"""What is measured of a matrix, against the same measured the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings import diagnostics
from embeddings.diagnostics import coherence, diagnose, distinct_rows, example_words, nearest, rank, welch_bound
from embeddings.errors import InputError
from embeddings.output_matrix import unit_rows


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((130, 8)).astype(np.float32)


def slow_coherence(vectors: np.ndarray) -> float:
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    gram = np.abs(unit @ unit.T)
    np.fill_diagonal(gram, 0)
    return float(gram.max())


@pytest.mark.parametrize("tile", [1, 7, 64, 130, 2048])
def test_coherence_is_the_largest_cosine_whatever_the_tiles(
    vectors: np.ndarray, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "TILE", tile)
    assert coherence(vectors) == pytest.approx(slow_coherence(vectors), abs=1e-6)


def test_coherence_of_known_matrices() -> None:
    assert coherence(np.eye(5, dtype=np.float32)) == 0
    assert coherence(np.ones((1, 4), dtype=np.float32)) == 0
    assert coherence(np.array([[1, 2], [-3, -6], [1, 0]], dtype=np.float32)) == pytest.approx(1)
    assert coherence(np.array([[1.0, 0], [0, 0], [3, 4]])) == pytest.approx(0.6)


def test_coherence_of_many_rows_is_of_a_stated_sample(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "EXACT_ROWS", 50)
    measured = diagnose(vectors)
    assert measured.coherence_rows == 50
    assert measured.coherence == coherence(vectors) <= slow_coherence(vectors) + 1e-6


def test_coherence_reports_its_progress(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "TILE", 50)
    seen: list[tuple[str, float, float]] = []
    coherence(vectors, lambda *call: seen.append(call))
    assert seen == [("measuring coherence", done, 6) for done in (3, 5, 6)]


def test_welch_bound() -> None:
    assert welch_bound(33_278, 512) == pytest.approx(0.0439, abs=5e-5)
    assert welch_bound(512, 512) == welch_bound(1, 512) == 0
    # Three lines at 60 degrees in the plane reach it.
    lines = np.array([[1, 0], [0.5, np.sqrt(0.75)], [-0.5, np.sqrt(0.75)]])
    assert coherence(lines) == pytest.approx(welch_bound(3, 2), abs=1e-6)


@pytest.mark.parametrize("true_rank", [1, 3, 8])
def test_rank_survives_rounding_to_float32(true_rank: int) -> None:
    rng = np.random.default_rng(true_rank)
    product = rng.standard_normal((5000, true_rank)) @ rng.standard_normal((true_rank, 8))
    assert rank(product) == rank(product.astype(np.float32)) == rank(unit_rows(product)) == true_rank


def test_rank_of_edge_cases() -> None:
    assert rank(np.zeros((3, 4))) == 0
    assert rank(np.ones((2, 4), dtype=np.float32)) == pytest.approx(1)
    assert rank(np.eye(3, 7)) == 3


def test_distinct_rows() -> None:
    assert distinct_rows(np.array([[1, 0.0], [1, -0.0], [2, 0], [1, 0]])) == 2


def test_nearest_is_sorted_and_leaves_the_word_out() -> None:
    rows = np.array([[2.0, 0], [0, 1], [1, 1], [3, 0], [-1, 0], [0, 5]])
    found = nearest(rows, 0, 4)
    assert [word for word, _ in found] == [3, 2, 1, 5]  # 1 and 5 are equally near
    assert [cosine for _, cosine in found] == pytest.approx([1, np.sqrt(0.5), 0, 0])
    assert len(nearest(rows, 0, 100)) == 5


def test_example_words_say_something() -> None:
    words = ["<unk>", ",", "the", "1990", *(f"early{chr(97 + i)}" for i in range(26)), *("abcdefghijklmnopqrstuvw")]
    words += ["however", "Season", "war", "@-@", "<eos>", "government", "of"]
    shown = [words[i] for i in example_words(words, None, 5)]
    assert shown == ["Season", "government", "however", "war", "of"]
    assert example_words(words, None, 3) == example_words(words, np.arange(len(words))[::-1], 3)
    assert all(any(map(str.isalpha, words[i])) for i in example_words(words, None, 100))
    assert example_words([",", "<unk>"], None, 3) == []
    assert example_words(["tiny", "text"], None, 5) == [0, 1]


def test_diagnose_measures_it_all(vectors: np.ndarray) -> None:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(130)]
    measured = diagnose(vectors, words, examples=2, neighbours=3)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert (measured.size, measured.dim, measured.rank, measured.distinct_rows) == (130, 8, 8, 130)
    assert measured.coherence == pytest.approx(slow_coherence(vectors), abs=1e-6)
    assert measured.coherence_rows == 130
    assert measured.welch_bound == welch_bound(130, 8) < measured.coherence
    assert (measured.norm_min, measured.norm_mean, measured.norm_max) == pytest.approx(
        (norms.min(), norms.mean(), norms.max())
    )
    assert list(measured.neighbours) == [words[50], words[51]]
    assert [word for word, _ in measured.neighbours[words[50]]] == [words[i] for i, _ in nearest(vectors, 50, 3)]
    assert diagnose(vectors).neighbours == {}


def test_diagnose_refuses_what_is_no_matrix(vectors: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        diagnose(vectors, ["one"])
    assert str(caught.value) == "words: words and rows differ (found 1 words, expected 130 rows)."
    with pytest.raises(InputError) as caught:
        diagnose(vectors[0])
    assert str(caught.value) == "vectors: not a matrix (found shape (8,), expected (V, N))."
