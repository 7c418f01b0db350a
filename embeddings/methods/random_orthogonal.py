"""A random matrix with orthonormal columns: the paper's fixed classifier, without meaning."""

import numpy as np

from embeddings.options import NoOptions as Options
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

SUMMARY = "random orthonormal columns (the paper's Q), no meaning in them"
NEEDS_CORPUS = False


def build(statistics: CorpusStatistics, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """A draw from the uniform (Haar) distribution of matrices with orthonormal columns, or rows where V < N.

    With V > N the rows have norms about √(N/V): the central builder scales them to 1, and columns are then only
    approximately orthogonal.

    Returns:
        (V, N) float64: QᵀQ = 1 for V ≥ N, QQᵀ = 1 for V ≤ N.
    """
    progress("random-orthogonal", 0, 1)
    q = orthonormal(len(statistics), dim, np.random.default_rng(seed))
    progress("random-orthogonal", 1, 1)
    return q


def orthonormal(rows: int, columns: int, draw: np.random.Generator) -> np.ndarray:
    """(rows, columns) float64 as `build` says: the QR decomposition of a Gaussian, diag(R) > 0 (Mezzadri 2007)."""
    gaussian = draw.standard_normal((rows, columns))
    tall = gaussian if rows >= columns else gaussian.T
    q, r = np.linalg.qr(tall)
    # QR leaves the sign of each column open: this choice, not LAPACK's, makes the draw uniform.
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T
