"""Word vectors by factorising positive pointwise mutual information: what the paper calls PMI.

Levy and Goldberg, "Neural word embedding as implicit matrix factorization" (2014), with the settings of Levy,
Goldberg and Dagan, "Improving distributional similarity with lessons learned from word embeddings" (2015).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge

from embeddings.methods import factorised_counts, svd
from embeddings.methods.factorised_counts import LAGS, CountOptions, blocks_of
from embeddings.options import Count, NonNegative, option

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SUMMARY = "positive PMI of co-occurrence counts, factorised by a truncated SVD"
NEEDS_CORPUS = True
DEFAULT_FOLDS = 8
COUNTS_PAIRS = True
VERSION = svd.VERSION


@dataclass(frozen=True)
class Options(CountOptions):
    """How words are counted and the matrix is factorised; see docs/study.md for the discount."""

    METHOD: ClassVar[str] = "pmi"
    MATRIX: ClassVar[str] = "PMI"
    EMPTY: ClassVar[str] = "no two words of this corpus go together more often than by chance"

    window: Count | None = option(None, "all contexts up to this distance are counted together (none: by lags)")
    shift: Annotated[float, Ge(1e-9)] = option(1.0, "k. log k is subtracted from the PMI")
    discount: NonNegative = option(
        1.0, "d. The PMI of a pair that was counted n times is multiplied by n/(n + d)", before=0.0
    )
    lags: str | None = option(
        None,
        "distances such as 1,2,30. The contexts at distance 1, those at distance 2 and those within 30 are counted "
        f"apart. The last number takes the place of a window (none: {LAGS} if there is no window either)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lags is not None:
            blocks_of(self.lags)
            object.__setattr__(self, "window", None)  # it has no say, so that runs with any value are the same run

    @property
    def blocks(self) -> list[tuple[int, int]]:
        return [(1, self.window)] if self.window else blocks_of(self.lags or LAGS)

    def cells(self, counts: csr_array) -> csr_array:
        return positive_pmi(counts, smoothing=self.smoothing, shift=self.shift, discount=self.discount)


build, build_with_folds = factorised_counts.build, factorised_counts.build_with_folds


def recipe(options: Options) -> dict[str, Any]:
    """The options that the vectors depend on: of one block of columns as it was before there could be several."""
    values = dataclasses.asdict(options) | {"lags": options.lags or LAGS}
    del values["lags" if options.window else "window"]
    return values


def positive_pmi(counts: csr_array, *, smoothing: float = 0.75, shift: float = 1.0, discount: float = 0.0) -> csr_array:
    """max(0, log(p(w, c) / (p(w) · p_α(c))) − log k) with p_α(c) ∝ count(c)^α, of co-occurrence counts.

    A pair that was counted once has a large PMI by chance; the discount (after Pantel and Lin, "Discovering word
    senses from text", 2002) takes most of it away.

    Args:
        counts: (V, V), row = word w, column = context c.
        smoothing: α; below 1 it takes probability from frequent contexts to rare ones.
        shift: k, as many negative samples as skip-gram would have had.
        discount: d of the factor count(w, c) / (count(w, c) + d); 0 for none.

    Returns:
        (V, V) float64 in CSR format that holds the positive entries only.
    """
    from scipy.sparse import csr_array

    rows = counts.sum(axis=1)  # (V,)
    columns = counts.sum(axis=0) ** smoothing  # (V,)
    of_words = np.repeat(rows, np.diff(counts.indptr))  # (pairs,) count(w) of each
    # p(w, c) / p(w) is count(w, c) / count(w): the total cancels.
    pmi = np.log(counts.data / of_words / columns[counts.indices] * (columns.sum() / shift))
    pmi *= counts.data / (counts.data + discount)
    positive = pmi > 0
    starts = np.concatenate([[0], np.cumsum(positive)])[counts.indptr]
    starts = starts.astype(counts.indptr.dtype)
    return csr_array((pmi[positive], counts.indices[positive], starts), shape=counts.shape)
