"""Word vectors by factorising positive pointwise mutual information: what the paper calls PMI.

Levy and Goldberg, "Neural word embedding as implicit matrix factorization" (2014), with the settings of Levy,
Goldberg and Dagan, "Improving distributional similarity with lessons learned from word embeddings" (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Gt, Le

from embeddings.errors import InputError
from embeddings.methods import cooccurrence
from embeddings.methods.missing_words import fill_missing
from embeddings.methods.svd import left_singular
from embeddings.options import Checked, Count, NonNegative, Positive, option
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SUMMARY = "positive PMI of co-occurrence counts, factorised by a truncated SVD"
NEEDS_CORPUS = True
MORE_TEXT = "take a longer or more varied text, or a smaller dimension"


@dataclass(frozen=True)
class Options(Checked):
    """How words are counted and the matrix is factorised; see docs/study.md for the discount."""

    window: Count = option(5, "largest distance between a word and its context")
    context: Literal["symmetric", "left"] = option("symmetric", "contexts on both sides of a word, or on its left only")
    weights: Literal["harmonic", "linear", "flat"] = option(
        "harmonic", "what a pair at distance d counts: 1/d, a value that falls linearly, or 1"
    )
    cross_lines: bool = option(True, "count pairs across the end of a line too")
    smoothing: Annotated[float, Gt(0), Le(1)] = option(0.75, "exponent of the counts of contexts")
    shift: Positive = option(1.0, "k. log k is subtracted from the PMI")
    discount: NonNegative = option(
        1.0, "d. The PMI of a pair that was counted n times is multiplied by n/(n + d)", before=0.0
    )
    eigenvalue_weight: float = option(0.5, "p of the vectors U·S^p")
    centre: bool = option(True, "subtract the mean vector")


def build(statistics: CorpusStatistics, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """U·S^p of the positive PMI matrix ≈ U·S·Wᵀ, columns by falling singular value, rows centred.

    Words without any positive PMI (they never occur, say) get the rule of `embeddings.methods.missing_words`.

    Returns:
        (V, N) float.

    Raises:
        InputError: an option is out of range, the window is longer than the corpus, or the rank is below N.
    """
    ids = _checked(statistics, dim, options)
    counts = cooccurrence.count(
        ids,
        len(statistics),
        window=options.window,
        context=options.context,
        weights=options.weights,
        end_of_line=None if options.cross_lines else statistics.end_of_line,
        progress=progress,
    )
    ppmi = positive_pmi(counts, smoothing=options.smoothing, shift=options.shift, discount=options.discount)
    if not ppmi.nnz:
        raise InputError("pmi", "no two words of this corpus go together more often than by chance", fix=MORE_TEXT)
    u, s = left_singular(ppmi, dim, seed, progress)
    if (rank := np.count_nonzero(s)) < dim:
        what = f"the positive PMI matrix of this corpus has rank {rank}"
        raise InputError("dim", what, found=dim, expected=f"at most {rank}", fix=MORE_TEXT)
    vectors = u * (s**options.eigenvalue_weight).astype(u.dtype)  # (V, N)
    sizes = np.linalg.norm(vectors, axis=1)
    # Beside empty rows: words that meet only each other may have no part in the N leading vectors.
    missing = sizes <= 1e-6 * sizes.max()
    if options.centre:
        vectors -= vectors[~missing].mean(axis=0)
    fill_missing(vectors, missing, np.random.default_rng(seed))
    return vectors


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
    word = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))  # (pairs,) the row of each
    # p(w, c) / p(w) is count(w, c) / count(w): the total cancels.
    pmi = np.log(counts.data / rows[word] / columns[counts.indices] * (columns.sum() / shift))
    pmi *= counts.data / (counts.data + discount)
    positive = pmi > 0
    starts = np.concatenate([[0], np.cumsum(positive)])[counts.indptr]
    starts = starts.astype(counts.indptr.dtype)
    return csr_array((pmi[positive], counts.indices[positive], starts), shape=counts.shape)


def _checked(statistics: CorpusStatistics, dim: int, options: Options) -> np.ndarray:
    """The ids (tokens,), if all of the input can be used; `InputError` if not."""
    ids = statistics.text("pmi")
    if dim >= len(statistics):
        most = len(statistics) - 1
        raise InputError(
            "dim", f"too large for the PMI matrix of {most + 1} words", found=dim, expected=f"at most {most}"
        )
    if not options.cross_lines and statistics.end_of_line is None:
        raise InputError("cross_lines", "the corpus has no line ends", fix="leave cross_lines on")
    return ids
