"""The leading left singular vectors of a large sparse matrix, by scipy, always the same for a seed.

Pointwise mutual information has a flat spectrum: at WikiText-2's 512th singular value neighbours differ by 0.1 %.
Lanczos bidiagonalisation (PROPACK) is much faster there than ARPACK, scipy's default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embeddings.registry import Progress

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
    """
    from scipy.linalg import svd

    size = matrix.shape[0]
    progress("singular vectors", 0, 1)
    if size <= max(DENSE_LIMIT, 3 * rank):
        u, s, _ = svd(matrix.toarray().astype(np.float64), full_matrices=False)
        noise = s[0] * max(matrix.shape) * np.finfo(np.float64).eps
    else:
        u, s = _lanczos(matrix.astype(np.float32), rank, seed, progress)
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

    transposed = matrix.T.tocsr()
    usual, done = USUAL_KRYLOV * rank, 0

    def product(x: np.ndarray) -> np.ndarray:
        nonlocal done
        done += 1
        if done % 32 == 0:
            progress("singular vectors", min(done, usual), usual)
        return matrix @ x

    operator = LinearOperator(
        matrix.shape, matvec=product, rmatvec=lambda x: transposed @ x, dtype=np.dtype(np.float32)
    )
    # One thread: vector products gain nothing from a second, and the bits do not depend on the number of cores.
    with threadpool_limits(1, user_api="blas"):
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
