"""Vectors counted without a fold of the text, against counts by loops and numpy's dense decomposition."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pmi_reference import dense_ppmi, dense_root_correlation, silent, zipf_text

import embeddings
from embeddings import CorpusStatistics, InputError
from embeddings.cross_fit import FoldVectors, bfloat16_bits, fold_bounds, fold_of_tokens, fold_vectors
from embeddings.methods import cca, pmi
from embeddings.methods.factorised_counts import CountOptions
from embeddings.methods.pmi import Options


def left_counts(ids: np.ndarray, size: int, nearest: int, window: int) -> np.ndarray:
    counts = np.zeros((size, size))
    for distance in range(nearest, window + 1):
        np.add.at(counts, (ids[distance:], ids[:-distance]), 1 / distance)
    return counts


def pmi_cells(discount: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda counts: dense_ppmi(counts, 0.75, 1.0, discount)


def cca_cells(counts: np.ndarray) -> np.ndarray:
    return dense_root_correlation(counts, 1.0)


@pytest.mark.parametrize(
    ("method", "options", "cells"),
    [
        (pmi, Options(lags="1,4", context="left", discount=0.0), pmi_cells(0.0)),
        (pmi, Options(lags="1,4", context="left", discount=1.0), pmi_cells(1.0)),
        (cca, cca.Options(lags="1,4", context="left"), cca_cells),
        (cca, cca.Options(lags="1,4", context="sides"), cca_cells),
    ],
    ids=["pmi", "pmi with discount", "cca", "cca, both sides apart"],
)
def test_a_fold_has_the_matrix_of_the_other_counts_in_the_axes_of_the_whole(
    method: Any, options: CountOptions, cells: Callable[[np.ndarray], np.ndarray]
) -> None:
    text, bounds = zipf_text(40, 2000), np.array([0, 700, 1500, 2000])
    whole, folds = method.build_with_folds(text, 6, 1, options, bounds, silent)
    np.testing.assert_array_equal(whole, method.build(text, 6, 1, options, silent))

    def matrix(*counts: np.ndarray) -> np.ndarray:
        return np.hstack([cells(each) for each in counts])

    def blocks(ids: np.ndarray) -> list[np.ndarray]:
        left = [left_counts(ids, 40, 1, 1), left_counts(ids, 40, 1, 4)]
        return [*left, *(each.T for each in left)] if options.context == "sides" else left

    u, s, vt = np.linalg.svd(matrix(*blocks(text.ids)), full_matrices=False)
    vt = vt[:6] * np.sign(u[np.abs(u[:, :6]).argmax(axis=0), range(6)])[:, None]
    power = options.eigenvalue_weight
    mean = (u[:, :6] * s[:6] ** power).mean(axis=0) * np.sign(u[np.abs(u[:, :6]).argmax(axis=0), range(6)])
    for found, (start, end) in zip(folds, itertools.pairwise(bounds), strict=True):
        rest = [a - b for a, b in zip(blocks(text.ids), blocks(text.ids[start:end]), strict=True)]
        m = matrix(*(np.where(each < 1e-6, 0, each) for each in rest))
        expected = m @ vt.T * s[:6] ** (power - 1) - mean
        expected[~m.any(axis=1)] = 0
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_word_that_only_one_fold_has_is_zero_there_and_itself_elsewhere(tmp_path: Path) -> None:
    text = zipf_text(40, 2000)
    ids = text.ids.copy()
    ids[100:120:4] = 40  # the first of four folds
    wider = CorpusStatistics([*text.words, "rare"], np.bincount(ids), ids)
    found = values(fold_vectors("pmi", wider, 6, 1, Options(), 4, silent, directory=tmp_path))
    assert not found[0, 40].any()
    np.testing.assert_allclose(np.linalg.norm(found[1:, 40], axis=1), 1, atol=1e-2)


def test_words_that_meet_only_each_other_are_zero_in_each_fold() -> None:
    """They have no part in the leading vectors: all of them would share one direction, that of −mean."""
    text = zipf_text(40, 2000)
    pair = np.tile([40, 41, 42], 8)  # two words and the end of a line
    ids = np.concatenate([[42], np.concatenate([[*part, 42, *pair] for part in np.split(text.ids, 20)])])
    words = CorpusStatistics([*text.words, "a", "b", "<eos>"], np.bincount(ids), ids, end_of_line=42)
    options = Options(cross_lines=False, window=1)
    _, folds = pmi.build_with_folds(words, 3, 1, options, fold_bounds(len(ids), 4), silent)
    for found in folds:
        assert found[:40].any(axis=1).all()
        assert not found[40:42].any()


def test_the_last_part_is_the_whole_matrix_and_both_are_kept(tmp_path: Path) -> None:
    text = zipf_text(40, 2000)
    made = fold_vectors("pmi", text, 6, 1, Options(), 4, silent, directory=tmp_path)
    assert made.rows.shape == (5, 40, 6)
    assert made.recipe["folds"] == 4
    whole = embeddings.build("pmi", text, 6)
    np.testing.assert_array_equal(made.rows[4], bfloat16_bits(whole.vectors))
    kept = {path.name.rpartition("-")[0]: path for path in tmp_path.iterdir()}
    assert kept.keys() == {"pmi", "pmi-folds"}
    assert embeddings.OutputMatrix.load(kept["pmi"]).sha256 == whole.sha256
    again = fold_vectors("pmi", text, 6, 1, Options(), 4, silent, directory=tmp_path)
    np.testing.assert_array_equal(again.rows, made.rows)
    assert FoldVectors.load(kept["pmi-folds"]).sha256 == made.sha256


def test_folds_and_the_matrix_in_the_cache_have_the_same_axes(tmp_path: Path) -> None:
    """An older scipy may have found others, of which a cache still holds the matrix."""
    text = zipf_text(40, 2000)
    embeddings.build_cached("pmi", text, 6, options=Options(), directory=tmp_path)
    (path,) = tmp_path.iterdir()
    turned = embeddings.OutputMatrix.load(path)
    embeddings.OutputMatrix(turned.vectors[:, ::-1].copy(), turned.recipe).save(path)
    made = fold_vectors("pmi", text, 6, 1, Options(), 4, silent, directory=tmp_path)
    np.testing.assert_array_equal(made.rows[4], bfloat16_bits(embeddings.OutputMatrix.load(path).vectors))
    np.testing.assert_array_equal(made.rows[4], bfloat16_bits(embeddings.build("pmi", text, 6).vectors))


@pytest.mark.parametrize(("tokens", "folds"), [(10, 3), (40, 8), (7, 7)])
def test_folds_are_equal_parts_in_a_row(tokens: int, folds: int) -> None:
    sizes = np.bincount(fold_of_tokens(tokens, folds), minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(fold_of_tokens(tokens, folds)) >= 0).all()
    np.testing.assert_array_equal(np.diff(fold_bounds(tokens, folds)), sizes)


def values(found: FoldVectors) -> np.ndarray:
    """The numbers of which `FoldVectors` holds the bits."""
    return (found.rows.astype(np.uint32) << 16).view(np.float32)


def test_bfloat16_is_the_nearest_one() -> None:
    exact = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -0.3, 0, 1e-30], dtype=np.float32)
    rounded = (bfloat16_bits(exact).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(rounded[:4], np.float32([1, 1, 1 + 2**-6, 1 + 2**-7]))
    np.testing.assert_allclose(rounded, exact, rtol=2**-8)


@pytest.mark.parametrize(
    ("method", "options", "folds", "message"),
    [
        ("hadamard", None, 4, "hadamard: its vectors are not counted on the text"),
        ("pmi", Options(window=60), 40, "folds: a fold of 50 tokens is shorter than the window of 60"),
    ],
)
def test_what_cannot_be_left_out_is_an_error(
    method: str, options: Options | None, folds: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        fold_vectors(method, zipf_text(40, 2000), 6, 1, options, folds, silent, directory=tmp_path)
