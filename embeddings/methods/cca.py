"""Word vectors by canonical correlation analysis of square roots of counts (√-CCA).

Stratos, Collins and Hsu, "Model-based word embeddings from decompositions of count matrices" (2015). The square root
makes the variance of a count about equal for rare and for frequent pairs. So nothing has to be cut off or discounted,
as PMI has to be where pairs are rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le

from embeddings.methods import factorised_counts, svd
from embeddings.methods.factorised_counts import LAGS, CountOptions, blocks_of
from embeddings.options import option

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SUMMARY = "square roots of co-occurrence counts, scaled for a correlation analysis and factorised by a truncated SVD"
NEEDS_CORPUS = True
DEFAULT_FOLDS = 8
COUNTS_PAIRS = True
VERSION = svd.VERSION


@dataclass(frozen=True)
class Options(CountOptions):
    """How words are counted and the matrix is factorised."""

    METHOD: ClassVar[str] = "cca"
    MATRIX: ClassVar[str] = "count"
    EMPTY: ClassVar[str] = "no two words of this corpus are near each other"

    eigenvalue_weight: float = option(1.0, "p of the vectors U·S^p")
    smoothing: Annotated[float, Gt(0), Le(1)] = option(1.0, "exponent of the counts of contexts")
    lags: str = option(
        LAGS,
        "distances. The contexts at each but the last are counted apart, and beside them all contexts within the last",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks_of(self.lags)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        return blocks_of(self.lags)

    def cells(self, counts: csr_array) -> csr_array:
        return root_correlation(counts, smoothing=self.smoothing)


build, build_with_folds = factorised_counts.build, factorised_counts.build_with_folds


def root_correlation(counts: csr_array, *, smoothing: float = 1.0) -> csr_array:
    """√count(w, c) / √(√count(w) · √count(c)^α), of co-occurrence counts.

    Args:
        counts: (V, V), row = word w, column = context c.
        smoothing: α; below 1 rare contexts weigh less and frequent ones more.

    Returns:
        (V, V) float64 in CSR format.
    """
    from scipy.sparse import csr_array

    rows, columns = counts.sum(axis=1), counts.sum(axis=0)  # (V,), (V,)
    of_words = np.repeat(rows, np.diff(counts.indptr))  # (pairs,) count(w) of each
    of_contexts = columns[counts.indices] ** smoothing
    cells = np.sqrt(counts.data) / (of_words * of_contexts) ** 0.25
    return csr_array((cells, counts.indices, counts.indptr), shape=counts.shape)
