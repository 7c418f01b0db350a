"""The leading left singular vectors of a large sparse matrix, always the same for a seed.

Pointwise mutual information has a flat spectrum: at WikiText-2's 512th singular value neighbours differ by 0.1 %. The
methods of scipy take one vector at a time and read the whole matrix for each. `_block_lanczos` takes many at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from embeddings.errors import InputError
from embeddings.registry import Progress
from embeddings.threads import cores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VERSION = 2
"""Raised when other vectors come out; the methods that decompose have this number as their own."""
DENSE_LIMIT = 2048
"""Up to this many rows the full decomposition in float64 takes seconds and is exact."""
TOLERANCE = 1e-4
"""Of a vector's residual ‖A Aᵀ u − s² u‖, relative to s², or to a thousandth of the largest s² if that is more. The
singular values are then right to about 1e-5."""
BLOCK = 32
"""Vectors that are multiplied at a time. More of them need a larger Krylov space, fewer read the matrix more often."""
KRYLOV = 8
"""The Krylov space may grow to this many times the rank, and to `SMALL_KRYLOV` in any case."""
SMALL_KRYLOV = 2048
"""Values that lie close together need many more vectors than the rank, where that is small."""
USUAL_KRYLOV = 4
"""What text takes of it, about, and the whole of the progress shown."""


def left_singular(matrix: csr_array, rank: int, seed: int, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """U and s of the truncated singular value decomposition, in falling order, signs fixed.

    The sign of a singular vector is arbitrary: its entry of the largest magnitude is made positive.

    Args:
        matrix: (V, C) sparse A, C at least V.
        rank: how many singular vectors, less than V.
        seed: of the random start.
        progress: called with the products taken and about how many there will be.

    Returns:
        U (V, rank) and s (rank,). Values that are zero up to rounding are exactly 0.

    Raises:
        InputError: the method of large matrices does not converge.
    """
    from scipy.linalg import eigh, svd

    size = matrix.shape[0]
    progress("singular vectors", 0, 1)
    if size <= DENSE_LIMIT:
        u, s, _ = svd(matrix.toarray().astype(np.float64), full_matrices=False)
        noise = s[0] * max(matrix.shape) * np.finfo(np.float64).eps
    elif size <= 4 * rank:  # a Krylov space would be as large as the matrix
        squares, u = eigh((matrix @ matrix.T).toarray().astype(np.float64, copy=False), driver="evd")
        s = np.sqrt(np.maximum(squares, 0))
        noise = s[-1] * np.sqrt(max(matrix.shape) * np.finfo(np.float64).eps)
    else:
        try:
            u, s = _block_lanczos(matrix.astype(np.float32), rank, seed, progress)
        except np.linalg.LinAlgError as error:
            what = "they cannot be found to the accuracy that is needed"
            raise InputError("singular vectors", what, found=str(error), fix="a smaller dimension") from None
        noise = 1e-5 * s.max()  # single precision
    order = np.argsort(-s, kind="stable")[:rank]
    u, s = u[:, order], s[order]
    largest = np.abs(u).argmax(axis=0)
    u = u * np.where(u[largest, np.arange(rank)] < 0, -1, 1).astype(u.dtype)
    progress("singular vectors", 1, 1)
    return u, np.where(s > noise, s, 0)


def _block_lanczos(matrix: csr_array, rank: int, seed: int, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """U (V, rank) and s (rank,) from the eigenvectors of A Aᵀ (Golub and Underwood 1977, "The block Lanczos method").

    K has orthonormal columns: a random block X, and then, block after block, what A Aᵀ X has beside the columns that
    are there. T = Kᵀ A Aᵀ K is small, and K y is nearly an eigenvector of A Aᵀ if y is one of T.

    Raises:
        LinAlgError: the Krylov space has grown to its limit.
    """
    from scipy.linalg import eigh, qr
    from threadpoolctl import threadpool_limits

    rows = matrix.shape[0]
    most = min(max(KRYLOV * rank, SMALL_KRYLOV), rows - BLOCK) // BLOCK * BLOCK
    between = max(BLOCK, rank // 4 // BLOCK * BLOCK)  # tests of convergence, which cost as much as some blocks
    basis = np.empty((rows, most), dtype=np.float32, order="F")  # K
    small = np.zeros((most, most))  # T
    # One thread of BLAS, so that no bit depends on the number of cores.
    with ThreadPoolExecutor(cores()) as pool, threadpool_limits(1, user_api="blas"):
        forth, back = _by_rows(matrix, pool), _by_rows(matrix.T.tocsr(), pool)
        start = np.random.default_rng(seed).standard_normal((rows, BLOCK), dtype=np.float32)
        found, _ = qr(start, mode="economic", overwrite_a=True)
        for width in range(BLOCK, most + 1, BLOCK):
            basis[:, width - BLOCK : width] = found
            known = basis[:, :width]
            rest = forth(back(np.ascontiguousarray(found)))
            inner = known.T @ rest
            found, scale = qr(rest - known @ inner, mode="economic", overwrite_a=True)
            again = known.T @ found  # what rounding left of them
            found, rescale = qr(found - known @ again, mode="economic", overwrite_a=True)
            small[:width, width - BLOCK : width] = inner + again @ scale
            progress("singular vectors", min(width, USUAL_KRYLOV * rank), USUAL_KRYLOV * rank)
            if width < most and (width < 3 * rank or width % between):
                continue
            squares, y = eigh(small[:width, :width], lower=False, subset_by_index=(width - rank, width - 1))
            residuals = np.linalg.norm((rescale @ scale) @ y[-BLOCK:], axis=0)
            if (residuals <= TOLERANCE * np.maximum(squares, 1e-3 * squares[-1])).all():
                break
        else:
            raise np.linalg.LinAlgError(f"no convergence with {most:,} vectors")
        u = known @ y.astype(np.float32)
        # Squares have lost half of the digits of small values.
        parts = (back(np.ascontiguousarray(u[:, start : start + BLOCK])) for start in range(0, rank, BLOCK))
        s = np.sqrt(np.concatenate([np.square(part, dtype=np.float64).sum(axis=0) for part in parts]))
    return u, s


def _by_rows(matrix: csr_array, pool: ThreadPoolExecutor) -> Callable[[np.ndarray], np.ndarray]:
    """x ↦ A x of a sparse A, whose rows are shared out by their entries. The blocks are views: a slice is a copy."""
    from scipy.sparse import csr_array

    shares = cores()
    borders = np.searchsorted(matrix.indptr, matrix.nnz * np.arange(1, shares) / shares)
    blocks = []
    for start, end in itertools.pairwise([0, *borders, matrix.shape[0]]):
        part, starts = slice(matrix.indptr[start], matrix.indptr[end]), matrix.indptr[start : end + 1]
        block = csr_array((end - start, matrix.shape[1]), dtype=matrix.dtype)
        # Not given to csr_array, which copies a view that is a small part of its array.
        block.data, block.indices, block.indptr = matrix.data[part], matrix.indices[part], starts - starts[0]
        blocks.append(block)
    return lambda x: np.concatenate([*pool.map(lambda block: block @ x, blocks)])
