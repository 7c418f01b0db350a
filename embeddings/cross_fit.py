"""Cross-fitting: word vectors counted without a part of the text, for training on that part.

Vectors that were counted on the train split have read the contexts that a model is then trained on: in training they
look better than on new text. The cure is that of target statistics in gradient boosting (Prokhorenkova et al. 2018) and
of double machine learning (Chernozhukov et al. 2018). The text is cut into K folds. Training on a fold reads vectors
that were counted on all other folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import registry
from embeddings.builder import cached, finish, keep, request
from embeddings.errors import InputError
from embeddings.files import StoredArray, hash_array
from embeddings.output_matrix import unit_rows
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics


@dataclass(frozen=True)
class FoldVectors(StoredArray):
    """The vectors of a matrix, counted without each of K folds of the text.

    Args:
        rows: (K + 1, V, N) uint16, the bits of bfloat16. Part k is counted without fold k, and the last part on the
            whole text. Rows have Euclidean norm 1, or are 0 where a word is not known outside the fold.
        recipe: how they were counted: that of the whole matrix, and ``folds``, K.
    """

    KIND, TENSOR, DTYPE, NDIM = "the vectors of folds", "rows", "<u2", 3

    rows: np.ndarray
    recipe: dict[str, Any]


def fold_bounds(tokens: int, folds: int) -> np.ndarray:
    """Where the folds of a text begin and end: (K + 1,), equal parts in a row."""
    return np.arange(folds + 1) * tokens // folds


def fold_of_tokens(tokens: int, folds: int) -> np.ndarray:
    """The fold of each token of a text: (tokens,) int32, 0 to K − 1."""
    return np.repeat(np.arange(folds, dtype=np.int32), np.diff(fold_bounds(tokens, folds)))


def fold_vectors(
    method: str,
    statistics: CorpusStatistics,
    dim: int,
    seed: int,
    options: Any,
    folds: int,
    progress: Progress,
    *,
    directory: str | Path,
) -> FoldVectors:
    """The vectors counted without each fold, from ``directory`` if they were built before.

    What takes longest is the decomposition of the whole, so the matrix of the whole text is kept there as well:
    `embeddings.builder.prepare` finds it.

    Args:
        dim: N.
        folds: K, at least 2.

    Raises:
        InputError: the method cannot leave out a part of the text, or cannot build the matrix.
    """
    if not registry.can_cross_fit(method):
        raise InputError(method, "its vectors are not counted on the text, so that no fold can be left out")
    module: Any = registry.get(method)
    recipe = request(method, statistics, dim, seed, options)
    marked = recipe | {"folds": folds}

    def make() -> FoldVectors:
        bounds = fold_bounds(len(statistics.text(method)), folds)
        vectors, parts = module.build_with_folds(statistics, dim, seed, options, bounds, progress)
        # Not what the cache may hold: another version of scipy may have found other axes, in which the folds are not.
        whole = keep(finish(vectors, recipe), method, recipe, directory)
        rows = np.empty((folds + 1, *whole.vectors.shape), dtype=np.uint16)
        for fold, part in enumerate(parts):
            rows[fold] = bfloat16_bits(unit_rows(part))
        rows[folds] = bfloat16_bits(whole.vectors)
        return FoldVectors(rows, marked | {"sha256": hash_array(rows, FoldVectors.DTYPE)})

    return cached(FoldVectors, make, f"{method}-folds", marked, directory)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Finite float32 rounded to the nearest bfloat16, halves to even: its bits as uint16."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounding = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    rounded: np.ndarray = ((bits + rounding) >> np.uint32(16)).astype(np.uint16)
    return rounded
