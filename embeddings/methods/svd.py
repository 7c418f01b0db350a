"""The leading left singular vectors of a large sparse matrix, by scipy, always the same for a seed.

Pointwise mutual information has a flat spectrum: at WikiText-2's 512th singular value neighbours differ by 0.1 %.
Lanczos bidiagonalisation (PROPACK) is much faster there than ARPACK, scipy's default.
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

DENSE_LIMIT = 2048
"""Up to this many rows the full decomposition in float64 takes seconds and is exact."""
TOLERANCE = 1e-3
"""Of the singular values, relative, as PROPACK bounds it; they are then right to about 1e-5."""
KRYLOV = 8
"""The Krylov space may grow to this many times the rank."""
USUAL_KRYLOV = 4
"""What text takes of it, about: the whole of the progress shown."""


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
    elif size <= 3 * rank:  # a Krylov space would be as large as the matrix
        squares, u = eigh((matrix @ matrix.T).toarray().astype(np.float64, copy=False), driver="evd")
        s = np.sqrt(np.maximum(squares, 0))
        noise = s[-1] * np.sqrt(max(matrix.shape) * np.finfo(np.float64).eps)
    else:
        try:
            u, s = _lanczos(matrix.astype(np.float32), rank, seed, progress)
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


def _lanczos(matrix: csr_array, rank: int, seed: int, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """U (V, rank) and s (rank,) in no certain order, by PROPACK."""
    from scipy.sparse.linalg import LinearOperator, svds
    from threadpoolctl import threadpool_limits

    usual, done = USUAL_KRYLOV * rank, 0

    def product(x: np.ndarray) -> np.ndarray:
        nonlocal done
        done += 1
        if done % 32 == 0:
            progress("singular vectors", min(done, usual), usual)
        return forth(x)

    # One thread of BLAS: products of vectors gain nothing from a second. No bit depends on the number of cores.
    with ThreadPoolExecutor(cores()) as pool, threadpool_limits(1, user_api="blas"):
        forth, back = _by_rows(matrix, pool), _by_rows(matrix.T.tocsr(), pool)
        operator = LinearOperator(matrix.shape, matvec=product, rmatvec=back, dtype=np.dtype(np.float32))
        u, s, _ = svds(
            operator,
            k=rank,
            solver="propack",
            tol=TOLERANCE,
            maxiter=min(matrix.shape[0], max(KRYLOV * rank, DENSE_LIMIT)),
            rng=seed,
            return_singular_vectors="u",
        )
    return u, s


def _by_rows(matrix: csr_array, pool: ThreadPoolExecutor) -> Callable[[np.ndarray], np.ndarray]:
    """x ↦ A x of a sparse A, whose rows are shared out by their entries. The blocks are views: a slice is a copy."""
    from scipy.sparse import csr_array

    shares = cores()
    borders = np.searchsorted(matrix.indptr, matrix.nnz * np.arange(1, shares) / shares)
    blocks = []
    for start, end in itertools.pairwise([0, *borders, matrix.shape[0]]):
        part, starts = slice(matrix.indptr[start], matrix.indptr[end]), matrix.indptr[start : end + 1]
        entries = matrix.data[part], matrix.indices[part], starts - starts[0]
        blocks.append(csr_array(entries, shape=(end - start, matrix.shape[1]), copy=False))
    return lambda x: np.concatenate([*pool.map(lambda block: block @ x, blocks)])
