"""Word vectors by factorising a matrix made of co-occurrence counts: what `pmi` and `cca` share.

The two differ in the matrix: each has `CountOptions` of its own, whose ``cells`` makes it of the counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from annotated_types import Gt, Le

from embeddings.errors import InputError
from embeddings.methods import cooccurrence
from embeddings.methods.missing_words import fill_missing
from embeddings.methods.svd import BLOCK, left_singular
from embeddings.options import Checked, option, rising_numbers
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics
from embeddings.threads import cores, map_in_threads

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LAGS = "1,2,30"
"""The best distances on valid, where vectors have folds and contexts are on both sides: docs/study.md."""
MORE_TEXT = "take a longer or more varied text, or a smaller dimension"


@dataclass(frozen=True)
class CountOptions(Checked):
    """How words are counted and how vectors are made of the factors.

    Class attributes:
        METHOD: the name of the method, for errors.
        MATRIX: what its matrix is called.
        EMPTY: what it means if no cell is above 0.
    """

    METHOD: ClassVar[str]
    MATRIX: ClassVar[str]
    EMPTY: ClassVar[str]

    context: Literal["sides", "left", "symmetric"] = option(
        "sides", "left: the contexts before a word. symmetric: those on both sides, counted together. sides: apart"
    )
    weights: Literal["harmonic", "linear", "flat"] = option(
        "harmonic", "what a pair at distance d counts: 1/d, a value that falls linearly, or 1"
    )
    cross_lines: bool = option(True, "count pairs across the end of a line too")
    smoothing: Annotated[float, Gt(0), Le(1)] = option(0.75, "exponent of the counts of contexts")
    eigenvalue_weight: float = option(0.5, "p of the vectors U·S^p")
    centre: bool = option(True, "subtract the mean vector")

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The smallest and the largest distance that each block of columns counts."""
        raise NotImplementedError

    def cells(self, counts: csr_array) -> csr_array:
        """The matrix of one block of contexts: counts (V, V), row word, column context → (V, V), no cell below 0."""
        raise NotImplementedError


def blocks_of(lags: str) -> list[tuple[int, int]]:
    """The smallest and the largest distance of each block: ``1,2,30`` is at 1, at 2, and within 30."""
    *exact, window = rising_numbers("lags", lags)
    return [*((distance, distance) for distance in exact), (1, window)]


def build(statistics: CorpusStatistics, dim: int, seed: int, options: CountOptions, progress: Progress) -> np.ndarray:
    """U·S^p of the matrix M ≈ U·S·Wᵀ, columns by falling singular value, rows centred.

    M is (V, V), or (V, k·V) for k blocks of contexts side by side, each made of its own counts. Words without a cell
    above 0 (they never occur, say) get the rule of `embeddings.methods.missing_words`.

    Returns:
        (V, N) float.

    Raises:
        InputError: an option is out of range, the window is longer than the corpus, or the rank is below N.
    """
    ids = _checked(statistics, dim, options)
    matrix = side_by_side(count_blocks(ids, statistics, options, progress), options)
    return factorise(matrix, dim, seed, options, progress).vectors


def build_with_folds(
    statistics: CorpusStatistics, dim: int, seed: int, options: CountOptions, bounds: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The vectors of `build`, and for each fold of the text the vectors counted without it.

    With M ≈ U·S·Wᵀ that of the whole text, its vectors are U·S^p = M·W·S^(p−1). Those of a fold are M'·W·S^(p−1), less
    the same mean: M' is made of the counts of the whole minus those of the fold. So both have the same axes. A word
    that is missing outside a fold has a row of zeros there.

    Args:
        bounds: (K + 1,) where the folds begin and end.

    Returns:
        (V, N) float, and K arrays of the same shape, one after the other.

    Raises:
        InputError: as `build`, or a fold is shorter than the window.
    """
    ids = _checked(statistics, dim, options)
    folds, largest = len(bounds) - 1, max(window for _, window in options.blocks)
    if (shortest := int(np.diff(bounds).min())) <= largest:
        what = f"a fold of {shortest:,} tokens is shorter than the window of {largest:,}"
        raise InputError("folds", what, found=folds, fix="fewer folds, or a longer text")
    counts = count_blocks(ids, statistics, options, progress)
    matrix = side_by_side(counts, options)
    found = factorise(matrix, dim, seed, options, progress)
    kind = found.u.dtype
    # W·S^(p−1) = Mᵀ·U·S^(p−2), so that the decomposition need not give W: (k·V, N) in strips
    transposed, left = matrix.T.astype(kind), found.u * (found.s ** (options.eigenvalue_weight - 2)).astype(kind)
    # Few columns at a time: those of many contexts stay in the cache.
    strips = [*map_in_threads(transposed.__matmul__, np.array_split(left, math.ceil(dim / BLOCK), axis=1))]

    def without(fold: tuple[int, int]) -> np.ndarray:
        own = count_blocks(ids[slice(*fold)], statistics, options)
        rest = side_by_side([_less(a, b, largest) for a, b in zip(counts, own, strict=True)], options).astype(kind)
        vectors = np.hstack([rest @ strip for strip in strips])
        missing = are_missing(vectors)
        vectors -= found.mean
        vectors[missing] = 0
        return vectors

    def each() -> Iterator[np.ndarray]:
        progress("counting without a fold", 0, folds)
        # A fold holds as much as the whole, and a cluster counts for one at a time.
        threads = 1 if statistics.client else min(2, cores())
        for fold, vectors in enumerate(map_in_threads(without, itertools.pairwise(bounds), threads), start=1):
            yield vectors
            progress("counting without a fold", fold, folds)

    return found.vectors, each()


def _less(whole: csr_array, part: csr_array, window: int) -> csr_array:
    """``whole`` − ``part`` of two counts, without the remains of rounding: no pair counts less than 1/window."""
    from scipy.sparse import csr_array

    rest = csr_array(whole - part)
    rest.data[rest.data < 0.5 / window] = 0
    rest.eliminate_zeros()
    return rest


def count_blocks(
    ids: np.ndarray, statistics: CorpusStatistics, options: CountOptions, progress: Progress | None = None
) -> list[csr_array]:
    """The co-occurrence counts (V, V) of each block of contexts in a text.

    Args:
        ids: (tokens,) the text.
    """
    blocks = options.blocks
    if (largest := max(window for _, window in blocks)) >= len(ids):
        name = "window" if getattr(options, "window", None) else "lags"
        raise InputError(name, "longer than the corpus", found=largest, expected=f"less than {len(ids)}")
    return [
        cooccurrence.count(
            ids,
            len(statistics),
            window=window,
            nearest=nearest,
            context="symmetric" if options.context == "symmetric" else "left",
            weights=options.weights,
            end_of_line=None if options.cross_lines else statistics.end_of_line,
            progress=progress,
            client=statistics.client,
        )
        for nearest, window in blocks
    ]


def side_by_side(counts: Sequence[csr_array], options: CountOptions) -> csr_array:
    """The matrix of each of k counts (V, V), as one (V, k·V), or (V, 2k·V) where the two sides count apart."""
    from scipy.sparse import csr_array, hstack

    if options.context == "sides":
        # The words behind a word are its contexts where it is theirs.
        counts = [side for each in counts for side in (each, csr_array(each.T))]
    blocks = [options.cells(each) for each in counts]
    return blocks[0] if len(blocks) == 1 else csr_array(hstack(blocks, format="csr"))


class Factors(NamedTuple):
    """A factorised matrix: U and S, and the vectors made of them.

    Args:
        u: (V, N) left singular vectors.
        s: (N,) singular values, all above 0.
        mean: (N,) what was subtracted from each row of U·S^p; zeros where rows are not centred.
        vectors: (V, N) U·S^p, centred, with the rows of missing words filled in.
    """

    u: np.ndarray
    s: np.ndarray
    mean: np.ndarray
    vectors: np.ndarray


def factorise(matrix: csr_array, dim: int, seed: int, options: CountOptions, progress: Progress) -> Factors:
    """The truncated decomposition of a matrix (V, k·V), and the vectors made of it.

    Raises:
        InputError: the matrix is empty, or its rank is below N.
    """
    if not matrix.nnz:
        raise InputError(options.METHOD, options.EMPTY, fix=MORE_TEXT)
    u, s = left_singular(matrix, dim, seed, progress)
    if (rank := np.count_nonzero(s)) < dim:
        what = f"the {options.MATRIX} matrix of this corpus has rank {rank}"
        raise InputError("dim", what, found=dim, expected=f"at most {rank}", fix=MORE_TEXT)
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = u * (s**options.eigenvalue_weight).astype(u.dtype)  # (V, N)
        missing = are_missing(vectors)
    if missing.all() or not np.isfinite(vectors).all():
        what, p = "the vectors U·S^p are too small or too large for numbers", options.eigenvalue_weight
        raise InputError("eigenvalue_weight", what, found=p, expected="a number near 0 to 1")
    mean = np.zeros_like(vectors[0])
    if options.centre:
        mean = vectors[~missing].mean(axis=0)
        vectors -= mean
    fill_missing(vectors, missing, np.random.default_rng(seed))
    return Factors(u, s, mean, vectors)


def are_missing(vectors: np.ndarray) -> np.ndarray:
    """Which words have no part in the N leading vectors U·S^p, not centred yet: (V, N) → (V,) bool.

    They have no cell above 0, or they meet only each other.
    """
    sizes = np.linalg.norm(vectors, axis=1)
    found: np.ndarray = sizes <= 1e-6 * sizes.max()
    return found


def _checked(statistics: CorpusStatistics, dim: int, options: CountOptions) -> np.ndarray:
    """The ids (tokens,), if all of the input can be used; `InputError` if not."""
    ids = statistics.text(options.METHOD)
    if dim >= len(statistics):
        most = len(statistics) - 1
        what = f"too large for the {options.MATRIX} matrix of {most + 1} words"
        raise InputError("dim", what, found=dim, expected=f"at most {most}")
    if not options.cross_lines and statistics.end_of_line is None:
        raise InputError("cross_lines", "the corpus has no line ends", fix="leave cross_lines on")
    return ids
