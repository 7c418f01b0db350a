"""Codes of one bit a weight against the vectors that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from pmi_reference import silent, zipf_text

import embeddings
from embeddings import InputError
from embeddings.methods import pmi, pmi_signs
from embeddings.methods.pmi_signs import Options
from embeddings.output_matrix import unit_rows

TEXT = zipf_text(200, 8_000)
VECTORS = unit_rows(pmi.build(TEXT, 16, 1, pmi.Options(window=3), silent))


def codes(dim: int, **options: object) -> np.ndarray:
    return pmi_signs.build(TEXT, dim, 1, Options(**({"window": 3, "rank": 16} | options)), silent)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [8, 16, 40])
@pytest.mark.parametrize("rotation", ["itq", "random"])
def test_the_matrix_has_two_values_of_rows_of_norm_1(dim: int, rotation: str) -> None:
    options = Options(rank=16, rotation=rotation)  # type: ignore[arg-type]
    matrix = embeddings.build("pmi-signs", TEXT, dim, options=options)
    assert matrix.vectors.shape == (200, dim)
    np.testing.assert_allclose(np.abs(matrix.vectors), 1 / np.sqrt(dim), rtol=1e-6)
    assert matrix.sha256 == embeddings.build("pmi-signs", TEXT, dim, options=options).sha256
    assert matrix.sha256 != embeddings.build("pmi-signs", TEXT, dim, seed=2, options=options).sha256


def test_the_share_of_bits_that_differ_is_the_angle() -> None:
    """Charikar (2002): random directions tell two vectors apart as often as their angle is of π."""
    signs = codes(4_096)
    differ = (1 - signs @ signs.T / 4_096) / 2
    angle = np.arccos(np.clip(VECTORS @ VECTORS.T, -1, 1)) / np.pi
    np.testing.assert_allclose(differ, angle, atol=0.04)  # five deviations of independent bits


def test_itq_brings_the_vectors_nearer_to_their_signs() -> None:
    """Each step of ITQ does so (Gong and Lazebnik 2011), and the rotation stays one."""

    def loss(rotation: np.ndarray) -> float:
        rotated = VECTORS @ rotation
        return float(((np.where(rotated < 0, -1, 1) - rotated) ** 2).sum())

    rotations = [pmi_signs.learn_rotation(VECTORS, np.eye(16), steps, silent) for steps in (0, 1, 5, 50)]
    losses = [loss(rotation) for rotation in rotations]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]
    np.testing.assert_allclose(rotations[-1] @ rotations[-1].T, np.eye(16), atol=1e-5)


def test_longer_codes_are_nearer_to_the_vectors() -> None:
    cosines = VECTORS @ VECTORS.T
    found = [np.corrcoef(cosines.ravel(), (signs @ signs.T).ravel())[0, 1] for signs in map(codes, (16, 64, 256))]
    assert 0.7 < found[0] < found[1] < found[2]


def test_keep_leaves_the_largest_entries_of_each_row() -> None:
    all_signs, some = codes(40), codes(40, keep=10)
    assert ((some != 0).sum(axis=1) == 10).all()
    np.testing.assert_array_equal(some[some != 0], all_signs[some != 0])
    assert {*np.unique(some)} == {-1, 0, 1}
    np.testing.assert_array_equal(codes(40, keep=40), all_signs)
    left = np.abs(VECTORS @ pmi_signs.random_rotations(16, 40, 1))
    assert (np.where(some != 0, left, np.inf).min(axis=1) >= np.where(some == 0, left, 0).max(axis=1)).all()


@pytest.mark.parametrize(("dim", "keep"), [(16, None), (40, 10)])
def test_a_fold_has_the_signs_of_its_own_vectors_rotated_as_those_of_the_whole(dim: int, keep: int | None) -> None:
    bounds, options = np.array([0, 3_000, 8_000]), Options(window=3, rank=16, keep=keep)
    whole, folds = pmi_signs.build_with_folds(TEXT, dim, 1, options, bounds, silent)
    np.testing.assert_array_equal(whole, codes(dim, keep=keep))
    rotation = pmi_signs.random_rotations(16, dim, 1)
    if dim == 16:
        rotation = pmi_signs.learn_rotation(VECTORS, rotation, options.iterations, silent)
    _, vectors = pmi.build_with_folds(TEXT, 16, 1, pmi.Options(window=3), bounds, silent)
    for found, own in zip(folds, vectors, strict=True):
        known = own.any(axis=1)
        assert not found[~known].any()
        rotated = unit_rows(own) @ rotation
        kept = found != 0
        np.testing.assert_array_equal(found[kept], np.where(rotated[kept] < 0, -1, 1))
        assert (kept[known].sum(axis=1) == (keep or dim)).all()


def test_the_options_of_pmi_act_on_its_vectors() -> None:
    assert (codes(16) != codes(16, context="symmetric")).any()
    recipe = embeddings.build("pmi-signs", TEXT, 16, options=Options(lags="1,3")).recipe["options"]
    assert (recipe["lags"], recipe["rotation"], recipe["keep"]) == ("1,3", "itq", None)
    assert "window" not in recipe


@pytest.mark.parametrize(
    ("dim", "options", "message"),
    [
        (8, {"keep": 9}, r"keep: more entries than a row has \(found 9, expected at most 8\)"),
        (300, {"rank": 200}, r"rank: too large for the PMI matrix of 200 words \(found 200, expected at most 199\)"),
        (8, {"rotation": "pca"}, "rotation: unknown choice 'pca'"),
        (8, {"smoothing": 0.0}, "smoothing: out of range"),
    ],
)
def test_unusable_options_are_errors(dim: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        codes(dim, **options)
