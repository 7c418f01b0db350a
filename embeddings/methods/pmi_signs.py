"""Word codes of one bit a weight: the signs of rotated PMI vectors.

Where N is at most the length of the PMI vectors, the rotation is learned by iterative quantisation (ITQ; Gong and
Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", 2011), so that the signs lie near
the vectors. A longer code takes several random rotations side by side. The share of bits in which two words differ is
then their angle/π on average (Charikar, "Similarity estimation techniques from rounding algorithms", 2002). Orthogonal
directions estimate it better than independent ones (Ji et al., "Super-bit locality-sensitive hashing", 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.errors import InputError
from embeddings.methods import pmi, random_orthogonal, svd
from embeddings.options import Count, Natural, option
from embeddings.output_matrix import unit_rows
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

SUMMARY = "±1: the signs of rotated PMI vectors, one bit a weight"
NEEDS_CORPUS = True
COUNTS_PAIRS = True
VERSION = svd.VERSION
DEFAULT_FOLDS = 8
RANK = 512
CHUNK = 4096
"""Rows that are rotated at a time where the codes are long."""


@dataclass(frozen=True)
class Options(pmi.Options):
    """The options of the PMI vectors, and how signs are made of them."""

    rank: Count | None = option(
        None, "largest length of the PMI vectors; N if N is smaller (none: 512, less for a small vocabulary)"
    )
    rotation: Literal["itq", "random"] = option(
        "itq", "what the vectors are multiplied by. itq: a rotation learned by iterative quantisation if N is at most "
        "the largest length of the PMI vectors, else as random. random: random rotations"
    )  # fmt: skip
    iterations: Natural = option(50, "iterations of ITQ")
    keep: Count | None = option(
        None, "k. Only the k entries of the largest magnitude keep their sign in each row, and the others are 0 "
        "(none: all keep it)"
    )  # fmt: skip


recipe = pmi.recipe


def build(statistics: CorpusStatistics, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """sign(X R), X the PMI vectors (V, r) scaled to norm 1 and R (r, N) a rotation, or several side by side.

    Returns:
        (V, N) float32, ±1, and 0 where ``keep`` says so.

    Raises:
        InputError: as `embeddings.methods.pmi`, or ``keep`` is above N.
    """
    rank = _rank(statistics, dim, options)
    with _of_rank(rank, dim):
        vectors = unit_rows(pmi.build(statistics, rank, seed, options, progress))
    return _codes(vectors, _rotation(vectors, dim, seed, options, progress), options)


def build_with_folds(
    statistics: CorpusStatistics, dim: int, seed: int, options: Options, bounds: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The codes of `build`, and for each fold of the text those of the vectors counted without it, rotated alike.

    A word that is missing outside a fold has a row of zeros there. Arguments, returns and errors are those of
    `embeddings.methods.pmi.build_with_folds`.
    """
    rank = _rank(statistics, dim, options)
    with _of_rank(rank, dim):
        whole, parts = pmi.build_with_folds(statistics, rank, seed, options, bounds, progress)
    vectors = unit_rows(whole)
    rotation = _rotation(vectors, dim, seed, options, progress)

    def coded(part: np.ndarray) -> np.ndarray:
        codes = _codes(unit_rows(part), rotation, options)
        codes[~part.any(axis=1)] = 0
        return codes

    return _codes(vectors, rotation, options), map(coded, parts)


def _rank(statistics: CorpusStatistics, dim: int, options: Options) -> int:
    """r."""
    if options.keep is not None and options.keep > dim:
        raise InputError("keep", "more entries than a row has", found=options.keep, expected=f"at most {dim}")
    most = max(1, min(RANK, len(statistics) // 2)) if options.rank is None else options.rank
    return min(dim, most)


@contextmanager
def _of_rank(rank: int, dim: int) -> Iterator[None]:
    """Names the rank in an error about the length of the PMI vectors, where N is not that length."""
    try:
        yield
    except InputError as error:
        raise (error.at("rank") if error.where == "dim" and rank < dim else error) from None


def _rotation(vectors: np.ndarray, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """R: (r, N)."""
    rank = vectors.shape[1]
    rotation = random_rotations(rank, dim, seed)
    if rank == dim and options.rotation == "itq":
        with threadpool_limits(1, user_api="blas"):  # small entries must not depend on the number of cores
            return learn_rotation(vectors, rotation, options.iterations, progress)
    return rotation


def _codes(vectors: np.ndarray, rotation: np.ndarray, options: Options) -> np.ndarray:
    """The signs of X R: (V, r) → (V, N) float32."""
    codes = np.empty((len(vectors), rotation.shape[1]), dtype=np.float32)
    with threadpool_limits(1, user_api="blas"):  # the signs of small entries must not depend on the number of cores
        for start in range(0, len(vectors), CHUNK):
            codes[start : start + CHUNK] = _signs(vectors[start : start + CHUNK] @ rotation, options.keep)
    return codes


def random_rotations(rank: int, dim: int, seed: int) -> np.ndarray:
    """As many random rotations (r, r) side by side as N columns need, the last one cut: (r, N) float32."""
    draw = np.random.default_rng(seed)
    rotations = [random_orthogonal.orthonormal(rank, rank, draw) for _ in range(-(-dim // rank))]
    return np.hstack(rotations)[:, :dim].astype(np.float32)


def learn_rotation(vectors: np.ndarray, rotation: np.ndarray, iterations: int, progress: Progress) -> np.ndarray:
    """ITQ: an R that lowers ‖sign(X R) − X R‖, by turns the signs B for R and the best R for B (Procrustes).

    The best R for B is U Wᵀ with U S Wᵀ = Xᵀ B.

    Args:
        vectors: X (V, N).
        rotation: (N, N) the R to begin with.

    Returns:
        (N, N), orthogonal.
    """
    for iteration in range(iterations):
        progress("ITQ", iteration, iterations)
        u, _, w = np.linalg.svd(vectors.T @ _signs(vectors @ rotation))
        rotation = u @ w
    progress("ITQ", iterations, iterations)
    return rotation


def _signs(values: np.ndarray, keep: int | None = None) -> np.ndarray:
    """The signs of all entries (that of 0 is 1), or of the ``keep`` largest of each row and 0 elsewhere."""
    signs = np.where(values < 0, -1, 1).astype(np.float32)
    if keep is not None and keep < values.shape[1]:
        small = np.argpartition(-np.abs(values), keep - 1, axis=1)[:, keep:]
        np.put_along_axis(signs, small, 0, axis=1)
    return signs
