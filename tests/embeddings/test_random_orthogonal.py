"""The random orthogonal matrix: orthonormal, uniform, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

import embeddings
from embeddings import CorpusStatistics
from embeddings.methods import random_orthogonal


def raw(size: int, dim: int, seed: int = 1) -> np.ndarray:
    statistics = CorpusStatistics([f"w{i}" for i in range(size)], np.ones(size, dtype=np.int64))
    return random_orthogonal.build(statistics, dim, seed, random_orthogonal.Options(), lambda *_: None)


@pytest.mark.parametrize(("size", "dim"), [(300, 20), (20, 20), (20, 300), (1, 5)])
def test_columns_or_rows_are_orthonormal(size: int, dim: int) -> None:
    matrix = raw(size, dim)
    assert matrix.shape == (size, dim)
    gram = matrix.T @ matrix if size >= dim else matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(min(size, dim)), atol=1e-12)


def test_the_seed_decides() -> None:
    statistics = CorpusStatistics([f"w{i}" for i in range(50)], np.ones(50, dtype=np.int64))
    first, again, other = (embeddings.build("random-orthogonal", statistics, 8, seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-6)


def test_the_draw_is_uniform() -> None:
    """Haar: each entry is symmetric about 0. LAPACK's own signs would make the first diagonal entry negative."""
    corners = np.array([raw(4, 4, seed)[0, 0] for seed in range(400)])
    assert abs(corners.mean()) < 0.1  # standard error 0.025
    assert corners.var() == pytest.approx(1 / 4, abs=0.05)
