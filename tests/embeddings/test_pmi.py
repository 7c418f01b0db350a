"""PMI vectors against loops and numpy's dense decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from pmi_reference import dense_ppmi, silent, zipf_text

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.methods import cooccurrence, pmi
from embeddings.methods import svd as singular
from embeddings.methods.missing_words import fill_missing
from embeddings.methods.pmi import Options


@pytest.mark.parametrize(
    ("smoothing", "shift", "discount"), [(0.75, 1.0, 0.0), (1.0, 1.0, 0.0), (0.75, 3.0, 0.0), (0.75, 1.0, 2.5)]
)
def test_positive_pmi_is_the_formula(smoothing: float, shift: float, discount: float) -> None:
    text = zipf_text(30, 400)
    counts = cooccurrence.count(text.ids, 32, window=2)  # two words never occur
    found = pmi.positive_pmi(counts, smoothing=smoothing, shift=shift, discount=discount)
    expected = dense_ppmi(counts.toarray(), smoothing, shift, discount)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
    assert found.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_vectors_are_u_s_to_the_p(weight: float, centre: bool, discount: float) -> None:
    text = zipf_text(40, 2000)
    options = Options(window=3, context="symmetric", eigenvalue_weight=weight, centre=centre, discount=discount)
    found = pmi.build(text, 6, 1, options, silent)
    ppmi = dense_ppmi(cooccurrence.count(text.ids, 40, window=3).toarray(), 0.75, 1.0, discount)
    u, s, _ = np.linalg.svd(ppmi)
    u = u[:, :6] * np.sign(u[np.abs(u[:, :6]).argmax(axis=0), range(6)])
    expected = u * s[:6] ** weight
    expected -= expected.mean(axis=0) if centre else 0
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.slow
def test_the_sparse_solver_agrees_with_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver of large vocabularies, on one that numpy can check."""
    text = zipf_text(600, 20_000)
    ppmi = pmi.positive_pmi(cooccurrence.count(text.ids, 600))
    u, s, _ = np.linalg.svd(ppmi.toarray())
    monkeypatch.setattr(singular, "DENSE_LIMIT", 100)
    found_u, found_s = singular.left_singular(ppmi, 24, 1, silent)
    np.testing.assert_allclose(found_s, s[:24], rtol=1e-5)
    assert found_u.dtype == np.float32  # it was not the dense path
    np.testing.assert_allclose(found_u.T @ found_u, np.eye(24), atol=1e-5)
    overlap = np.linalg.svd(u[:, :24].T @ found_u, compute_uv=False)
    assert overlap.min() > 0.9999
    assert abs(np.sum(u[:, :24] * found_u, axis=0)).min() > 0.999  # each vector is that of its value
    theirs, _, _ = scipy.sparse.linalg.svds(ppmi, 24, solver="propack", rng=1)
    assert np.linalg.svd(theirs.T @ found_u, compute_uv=False).min() > 0.9999
    assert (found_u[np.abs(found_u).argmax(axis=0), range(24)] > 0).all()


def test_a_high_rank_of_a_large_matrix_is_found_from_its_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    ppmi = pmi.positive_pmi(cooccurrence.count(zipf_text(200, 20_000).ids, 200))
    expected_u, expected_s = singular.left_singular(ppmi, 80, 1, silent)
    monkeypatch.setattr(singular, "DENSE_LIMIT", 100)
    u, s = singular.left_singular(ppmi, 80, 1, silent)
    np.testing.assert_allclose(s, expected_s, rtol=1e-7)
    np.testing.assert_allclose(u, expected_u, atol=1e-6)


def test_a_decomposition_that_does_not_converge_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "DENSE_LIMIT", 0)
    monkeypatch.setattr(singular, "TOLERANCE", 0)
    with pytest.raises(InputError, match=r"singular vectors: .*no convergence.*a smaller dimension"):
        singular.left_singular(scipy.sparse.random(300, 300, 0.1, format="csr", rng=1), 24, 1, silent)


def test_the_sparse_solver_sees_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "DENSE_LIMIT", 100)
    rng = np.random.default_rng(1)
    low = scipy.sparse.csr_array(rng.random((400, 25)) @ rng.random((25, 400)))
    _, s = singular.left_singular(low, 60, 1, silent)
    assert np.count_nonzero(s) == 25


def test_dimension_n_is_the_beginning_of_a_larger_one() -> None:
    text = zipf_text(60, 3000)
    options = Options(centre=False)
    large, small = (pmi.build(text, dim, 1, options, silent) for dim in (20, 8))
    np.testing.assert_allclose(large[:, :8], small, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2048, 100])
def test_the_same_seed_gives_the_same_bytes(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "DENSE_LIMIT", limit)
    text = zipf_text(400, 10_000)
    first, again = (embeddings.build("pmi", text, 16, seed=5) for _ in range(2))
    assert first.sha256 == again.sha256


def test_words_that_go_together_are_near() -> None:
    """Two topics that never mix: a word is nearer to its own topic than to the other."""
    rng = np.random.default_rng(1)
    lines = [np.append(rng.integers(1, 11, 12) + 10 * (n % 2), 0) for n in range(400)]
    ids = np.concatenate(lines)
    text = CorpusStatistics([f"w{i}" for i in range(21)], np.bincount(ids), ids, end_of_line=0)
    vectors = embeddings.build("pmi", text, 4, options=Options(cross_lines=False)).vectors
    cosines = vectors @ vectors.T
    assert cosines[1:11, 1:11].mean() > 0.5 > cosines[1:11, 11:].mean()


def test_words_without_pmi_get_distinct_rows() -> None:
    """Words that never occur: random directions by the seed, the others as if they were not there."""
    text = zipf_text(50, 3000)
    wider = CorpusStatistics([*text.words, "a", "b", "c"], np.append(text.counts, [0, 0, 0]), text.ids)
    matrix = embeddings.build("pmi", wider, 8)
    np.testing.assert_allclose(matrix.vectors[:50], embeddings.build("pmi", text, 8).vectors, atol=1e-5)
    rare = matrix.vectors[50:]
    assert (np.abs(rare @ rare.T)[np.triu_indices(3, 1)] < 0.999).all()
    assert matrix.sha256 == embeddings.build("pmi", wider, 8).sha256


def test_missing_vectors_are_the_mean_and_noise_of_one_percent() -> None:
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((500, 40)) * 3 + 5).astype(np.float32)
    missing = np.arange(500) >= 400
    known = vectors[:400].copy()
    fill_missing(vectors, missing, np.random.default_rng(2))
    np.testing.assert_array_equal(vectors[:400], known)
    noise = vectors[400:] - known.mean(axis=0)
    assert noise.std() == pytest.approx(0.01 * known.std(), rel=0.05)
    assert abs(noise.mean()) < 0.002


@pytest.mark.parametrize("value", [0.0, 2.0, 0.1])
def test_missing_vectors_differ_even_when_the_others_do_not(value: float) -> None:
    vectors = np.full((6, 4), value, dtype=np.float32)
    fill_missing(vectors, np.arange(6) >= 3, np.random.default_rng(1))
    assert len(np.unique(vectors[3:], axis=0)) == 3
    with pytest.raises(ValueError, match="every word is missing"):
        fill_missing(vectors, np.ones(6, dtype=bool), np.random.default_rng(1))


def test_progress_tells_both_parts() -> None:
    seen: set[str] = set()
    embeddings.build("pmi", zipf_text(40, 1000), 4, progress=lambda what, done, total: seen.add(what))
    assert seen == {"counting pairs", "singular vectors"}


@pytest.mark.parametrize(
    ("text", "dim", "options", "message"),
    [
        (
            zipf_text(40, 1000),
            40,
            {},
            r"dim: too large for the PMI matrix of 40 words \(found 40, expected at most 39\)",
        ),
        (zipf_text(40, 1000), 4, {"window": 1000}, "window: longer than the corpus"),
        (zipf_text(40, 1000), 4, {"smoothing": 0.0}, "smoothing: out of range"),
        (zipf_text(40, 1000), 4, {"shift": 0.0}, "shift: out of range"),
        (zipf_text(40, 1000), 4, {"shift": float("nan")}, "shift: out of range"),
        (zipf_text(40, 1000), 4, {"discount": -1.0}, "discount: out of range"),
        (zipf_text(40, 1000), 4, {"shift": 1e-310}, "shift: out of range"),
        (zipf_text(40, 1000), 4, {"lags": "1,1000"}, "lags: longer than the corpus"),
        (zipf_text(40, 1000), 4, {"eigenvalue_weight": float("inf")}, "eigenvalue_weight: out of range"),
        (zipf_text(40, 1000), 4, {"eigenvalue_weight": 1e5}, r"eigenvalue_weight: the vectors U·S\^p are too small"),
        (zipf_text(40, 1000), 4, {"eigenvalue_weight": -1e5}, r"eigenvalue_weight: the vectors U·S\^p are too small"),
        (CorpusStatistics(["a", "b"], np.array([9, 0]), np.zeros(9, int)), 1, {"window": 5}, "no two words"),
        (CorpusStatistics(["a", "b"], np.array([9, 0])), 1, {}, "needs the train split"),
    ],
)
def test_unusable_input_is_an_error(text: CorpusStatistics, dim: int, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embeddings.build("pmi", text, dim, options=Options(**options))


def test_more_dimensions_than_rank_is_an_error_with_the_rank() -> None:
    text = zipf_text(10, 500)
    wider = CorpusStatistics([f"w{i}" for i in range(30)], np.append(text.counts, [0] * 20), text.ids)
    with pytest.raises(InputError, match=r"rank (\d+) \(found 20, expected at most \1\)"):
        embeddings.build("pmi", wider, 20)


# --- several blocks of contexts ----------------------------------------------------------------------------


def test_lags_are_blocks_of_columns_each_with_its_own_pmi() -> None:
    text = zipf_text(40, 2000)
    found = pmi.build(text, 6, 1, Options(lags="1,3,5", context="left", centre=False), silent)
    blocks = []
    for nearest, window in ((1, 1), (3, 3), (1, 5)):
        counts = np.zeros((40, 40))
        for distance in range(nearest, window + 1):
            np.add.at(counts, (text.ids[distance:], text.ids[:-distance]), 1 / distance)
        blocks.append(dense_ppmi(counts, 0.75, 1.0, 1.0))
    u, s, _ = np.linalg.svd(np.hstack(blocks), full_matrices=False)
    u = u[:, :6] * np.sign(u[np.abs(u[:, :6]).argmax(axis=0), range(6)])
    np.testing.assert_allclose(found, u * s[:6] ** 0.5, atol=1e-10)


def test_one_lag_is_the_window_of_that_length() -> None:
    text = zipf_text(40, 2000)
    window, lag = (embeddings.build("pmi", text, 6, options=o) for o in (Options(window=3), Options(lags="3")))
    np.testing.assert_array_equal(window.vectors, lag.vectors)


def test_without_lags_the_recipe_is_that_of_older_matrices() -> None:
    """So that their files in caches are found again."""
    text = zipf_text(40, 2000)
    options = embeddings.build("pmi", text, 6, options=Options(window=5)).recipe["options"]
    assert "lags" not in options
    assert options["window"] == 5
    with_lags = embeddings.build("pmi", text, 6, options=Options(window=5, lags="1,4")).recipe["options"]
    assert with_lags["lags"] == "1,4"
    assert "window" not in with_lags


def test_by_default_the_contexts_of_each_side_are_counted_at_two_distances_and_within_30() -> None:
    found = embeddings.build("pmi", zipf_text(40, 2000), 6)
    written = Options(context="sides", lags="1,2,30")
    assert found.recipe == embeddings.build("pmi", zipf_text(40, 2000), 6, options=written).recipe
    assert found.recipe["options"]["lags"] == "1,2,30"
    shorter = zipf_text(40, 30)
    with pytest.raises(InputError, match=r"lags: longer than the corpus \(found 30, expected less than 30\)"):
        embeddings.build("pmi", shorter, 6)


@pytest.mark.parametrize("lags", ["", "0,2", "2,1", "1,1,3", "one", "1,-2", "1.5", "1,2,"])
def test_lags_that_are_no_rising_distances_are_refused(lags: str) -> None:
    with pytest.raises(InputError, match=r"lags: not a list of numbers \(found '.*', expected rising whole numbers"):
        Options(lags=lags)
