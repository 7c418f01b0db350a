"""The leading left singular vectors of a large sparse matrix, by block Lanczos.

Pointwise mutual information has a flat spectrum: at WikiText-2's 512th singular value neighbours differ by
0.1 %. Randomised subspace iteration and ARPACK (`scipy.sparse.linalg.svds`) need many passes for that.
Products with the sparse matrix are cheap, though, and a block Krylov space makes the most of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from embeddings.registry import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DENSE_LIMIT = 2048
"""Up to this many rows the full decomposition in float64 takes seconds and is exact."""
BLOCK = 32
"""Vectors of one step: a wider block needs more vectors in all, a narrower one makes slower products."""
TOLERANCE = 1e-3
"""Residual ‖A·Aᵀu − s²u‖ / s² that every wanted vector stays under; its s is then right to about 1e-6."""


def left_singular(
    matrix: csr_array, rank: int, seed: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """U and s of the truncated singular value decomposition, in falling order, signs fixed.

    The sign of a singular vector is arbitrary: its entry of the largest magnitude is made positive.

    Args:
        matrix: (V, V) sparse A.
        rank: how many singular vectors, less than V.
        seed: of the random starting block.
        progress: called with the steps done.

    Returns:
        U (V, rank) and s (rank,). Values that are zero up to rounding are exactly 0.
    """
    from scipy.linalg import svd

    if matrix.shape[0] <= max(DENSE_LIMIT, 3 * rank):
        progress("singular vectors", 0, 1)
        u, s, _ = svd(matrix.toarray().astype(np.float64), full_matrices=False)
        u, s = u[:, :rank], s[:rank]
        noise = s[0] * len(u) * np.finfo(np.float64).eps
        progress("singular vectors", 1, 1)
    else:
        u, s = _block_lanczos(matrix.astype(np.float32), rank, seed, progress)
        noise = 1e-3 * s[0]  # the root of 1e-6: float32 gives the s² to about 1e-7 of the largest
    largest = np.abs(u).argmax(axis=0)
    u = u * np.where(u[largest, np.arange(rank)] < 0, -1, 1).astype(u.dtype)
    return u, np.where(s > noise, s, 0)


def _block_lanczos(
    matrix: csr_array, rank: int, seed: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors of A·Aᵀ from the Krylov space of a random block (Golub and Underwood 1977).

    ``basis`` grows by a block a step, each orthogonal to all before it; T = basisᵀ·A·Aᵀ·basis is block
    tridiagonal and its eigenvectors y give u = basis·y. The residual of u is the part of A·Aᵀu outside the
    basis, ‖R·y_last‖, R being the triangle of the newest block: knowing when to stop costs no product.
    """
    from scipy.linalg import eigh, qr

    size = matrix.shape[0]
    # 4 to 5 times the rank is what text takes, and for a small rank no less than some tens of steps.
    most = min(max(8 * rank, 64 * BLOCK), size - BLOCK) // BLOCK * BLOCK
    check_every = max(rank // 2, 4 * BLOCK)
    next_check = 3 * rank
    # Column order, and untouched memory is not resident: only the columns that are reached count.
    basis = np.empty((size, most), dtype=np.float32, order="F")
    tridiagonal = np.zeros((most, most))
    start = np.random.default_rng(seed).standard_normal((size, BLOCK), dtype=np.float32)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as threads:
        block = qr(_product(matrix, start, threads.map), mode="economic")[0]
        for done in range(BLOCK, most + 1, BLOCK):
            last = slice(done - BLOCK, done)
            basis[:, last] = block
            image = _product(matrix, _product(matrix.T, block, threads.map), threads.map)
            block, coefficients, triangle = _orthogonalise(image, basis[:, :done])
            tridiagonal[last, last] = (coefficients + coefficients.T) / 2
            progress("singular vectors", min(done, 4 * rank), 4 * rank)
            if done >= next_check or done == most:
                squares, y = eigh(tridiagonal[:done, :done], subset_by_index=[done - rank, done - 1])
                residual = np.linalg.norm(triangle @ y[-BLOCK:], axis=0)
                if (residual <= TOLERANCE * np.maximum(squares, 1e-6 * squares[-1])).all() or done == most:
                    break
                next_check = done + check_every
            tridiagonal[done : done + BLOCK, last] = triangle
            tridiagonal[last, done : done + BLOCK] = triangle.T
    u = basis[:, :done] @ y[:, ::-1].astype(np.float32)
    progress("singular vectors", 1, 1)
    return u, np.sqrt(np.maximum(squares[::-1], 0))


def _orthogonalise(block: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """block = basis·c + new·triangle, ``new`` orthonormal and orthogonal to the basis; c of its last block.

    In exact arithmetic only the last two blocks of the basis have a part in ``block``, so that they are taken out
    first. What is left is small and its rounding errors are not: the second time all are, or else the basis is
    no longer orthogonal after some hundred vectors (off by 0.3 at 2,048). A pass that takes away much, as when
    nothing but rounding errors was left of a column, is repeated.
    """
    from scipy.linalg import qr

    near = basis[:, -2 * BLOCK :]
    coefficients = near.T @ block
    block, triangle = qr(block - near @ coefficients, mode="economic", check_finite=False)
    for _ in range(4):
        block, step = qr(block - basis @ (basis.T @ block), mode="economic", check_finite=False)
        triangle = step @ triangle
        if np.abs(np.diag(step)).min() > 0.5:
            break
    return block, coefficients[-BLOCK:], triangle


def _product(matrix: csr_array, block: np.ndarray, parallel_map: Callable) -> np.ndarray:
    """matrix · block on two threads, half of the columns each: scipy's sparse products release the lock."""
    halves = [np.ascontiguousarray(half) for half in np.array_split(block, 2, axis=1)]
    return np.concatenate(list(parallel_map(lambda half: matrix @ half, halves)), axis=1)
