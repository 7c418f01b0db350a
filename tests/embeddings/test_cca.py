"""CCA vectors against loops and numpy's dense decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from pmi_reference import dense_root_correlation, silent, zipf_text

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.methods import cca, cooccurrence


@pytest.mark.parametrize("smoothing", [0.75, 1.0])
def test_cells_are_the_formula(smoothing: float) -> None:
    text = zipf_text(30, 400)
    counts = cooccurrence.count(text.ids, 32, window=2)  # two words never occur
    found = cca.root_correlation(counts, smoothing=smoothing).toarray()
    np.testing.assert_allclose(found, dense_root_correlation(counts.toarray(), smoothing), atol=1e-12)


@pytest.mark.parametrize("context", ["left", "sides"])
def test_vectors_are_those_of_all_blocks_side_by_side(context: str) -> None:
    """With ``sides`` a word is the context of those before it too, in blocks of their own."""
    text = zipf_text(40, 2000)
    found = cca.build(text, 6, 1, cca.Options(lags="1,3", context=context), silent)
    blocks = [
        cooccurrence.count(text.ids, 40, window=window, nearest=nearest, context="left").toarray()
        for nearest, window in [(1, 1), (1, 3)]
    ]
    blocks += [each.T for each in blocks] if context == "sides" else []
    u, s, _ = np.linalg.svd(np.hstack([dense_root_correlation(each, 1.0) for each in blocks]))
    u = u[:, :6] * np.sign(u[np.abs(u[:, :6]).argmax(axis=0), range(6)])
    expected = u * s[:6]
    np.testing.assert_allclose(found, expected - expected.mean(axis=0), atol=1e-10)


def test_words_of_one_kind_are_near() -> None:
    """Two words in the same contexts point the same way, and away from words in others."""
    rng = np.random.default_rng(1)
    kinds = np.repeat(rng.integers(0, 2, 2000), 2)
    ids = 2 * kinds + np.tile([0, 4], 2000) + rng.integers(0, 2, 4000)  # a word of a kind, then one that follows it
    text = CorpusStatistics([f"w{i}" for i in range(8)], np.bincount(ids, minlength=8), ids)
    rows = embeddings.build("cca", text, 3, options=cca.Options(lags="1,2")).vectors
    assert rows[4] @ rows[5] > 0.9 > 0.5 > rows[4] @ rows[6]


@pytest.mark.parametrize(
    ("text", "dim", "message"),
    [
        (zipf_text(40, 2000), 40, "too large for the count matrix of 40 words"),
        (CorpusStatistics(["a", "b", "c"], np.array([1, 0, 0]), np.array([0])), 2, "lags: longer than the corpus"),
    ],
)
def test_unusable_input_is_an_error(text: CorpusStatistics, dim: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embeddings.build("cca", text, dim)


def test_lags_that_do_not_rise_are_an_error() -> None:
    with pytest.raises(InputError, match="lags"):
        cca.Options(lags="3,2")
