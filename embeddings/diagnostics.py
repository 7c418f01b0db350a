"""What can be measured of any output matrix: coherence, rank, norms, distinct rows, nearest neighbours."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from embeddings.errors import InputError
from embeddings.output_matrix import unit_rows
from embeddings.registry import Progress

EXACT_ROWS = 65_536
"""Up to so many rows coherence compares every two; of more it takes a sample of this size."""
RANK_TOLERANCE = 1e-6
"""A singular value below this part of the largest counts as zero: float32 rounding stays under it."""
TILE = 2048  # rows: a tile of their products is 16 MB of float32
FIRST_RANK = 50
"""Example words are looked for from this frequency rank on; before it stand the words of any text."""
CONTENT_WORD_LENGTH = 5
FUNCTION_WORDS = """
about after again against although among another because before being between could during either every
first following further having however including later might often other others second several should since
still their there these three through throughout those under until where which while whose within without
would
"""
"""Longer words that say nothing by themselves and would crowd the examples."""


@dataclass(frozen=True)
class Diagnostics:
    """Measurements of vectors (V, N).

    Args:
        size: V, the number of rows.
        dim: N, their length.
        coherence: the largest |cosine| between two different rows.
        coherence_rows: how many rows were compared for it; V unless V is above `EXACT_ROWS`.
        welch_bound: what coherence cannot fall below for V vectors of length N.
        rank: number of singular values above `RANK_TOLERANCE` of the largest.
        norm_min, norm_mean, norm_max: of the Euclidean norms of the rows.
        distinct_rows: number of different rows.
        neighbours: for some frequent words, the nearest words and their cosines, nearest first.
    """

    size: int
    dim: int
    coherence: float
    coherence_rows: int
    welch_bound: float
    rank: int
    norm_min: float
    norm_mean: float
    norm_max: float
    distinct_rows: int
    neighbours: dict[str, list[tuple[str, float]]] = field(default_factory=dict)


def diagnose(
    vectors: np.ndarray,
    words: Sequence[str] | None = None,
    counts: np.ndarray | None = None,
    *,
    examples: int = 5,
    neighbours: int = 6,
    progress: Progress | None = None,
) -> Diagnostics:
    """Measures vectors.

    Args:
        vectors: (V, N) floats, V at least 1.
        words: the V words in order of ids, for the neighbours; None leaves them out.
        counts: (V,) how often each word occurs; without them the words stand by falling frequency.
        examples: for how many words the neighbours are given.
        neighbours: how many neighbours each.
        progress: shows how much of the coherence is done.

    Raises:
        InputError: the vectors are no (V, N) array, or words and rows differ in number.
    """
    if vectors.ndim != 2 or not vectors.size:
        raise InputError("vectors", "not a matrix", found=f"shape {vectors.shape}", expected="(V, N)")
    if words is not None and len(words) != len(vectors):
        raise InputError("words", "words and rows differ", found=f"{len(words)} words", expected=f"{len(vectors)} rows")
    norms = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)
    unit = _unit(vectors)
    names = words or []
    return Diagnostics(
        size=vectors.shape[0],
        dim=vectors.shape[1],
        coherence=coherence(unit, progress),
        coherence_rows=min(len(vectors), EXACT_ROWS),
        welch_bound=welch_bound(*vectors.shape),
        rank=rank(vectors),
        norm_min=float(norms.min()),
        norm_mean=float(norms.mean()),
        norm_max=float(norms.max()),
        distinct_rows=distinct_rows(vectors),
        neighbours={
            names[word]: [(names[other], cosine) for other, cosine in nearest(unit, word, neighbours)]
            for word in example_words(names, counts, examples)
        },
    )


def welch_bound(size: int, dim: int) -> float:
    """√((V − N) / (N (V − 1))), least coherence of V unit vectors of length N (Welch 1974); 0 for V ≤ N."""
    return float(np.sqrt((size - dim) / (dim * (size - 1)))) if size > dim else 0.0


def coherence(vectors: np.ndarray, progress: Progress | None = None) -> float:
    """The largest |cosine| between two different rows of (V, N), 0 if there is only one.

    Tiles of the upper triangle of the Gram matrix in float32, never the (V, V) array. Above `EXACT_ROWS`,
    of a sample of so many rows, always the same: a lower bound then.
    """
    if len(vectors) > EXACT_ROWS:
        vectors = vectors[np.sort(np.random.default_rng(0).choice(len(vectors), EXACT_ROWS, replace=False))]
    unit = _unit(vectors)
    starts = range(0, len(unit), TILE)
    tiles, done, largest = len(starts) * (len(starts) + 1) // 2, 0, 0.0
    for start in starts:
        rows = unit[start : start + TILE]
        for other in range(start, len(unit), TILE):
            tile = rows @ unit[other : other + TILE].T  # (≤ TILE, ≤ TILE)
            if other == start:
                np.fill_diagonal(tile, 0)
            largest = max(largest, float(tile.max()), -float(tile.min()))
            done += 1
        if progress:
            progress("measuring coherence", done, tiles)
    return min(largest, 1.0)  # rounding may bring two equal rows to 1.0000001


def rank(vectors: np.ndarray) -> int:
    """The rank of (V, N) by the eigenvalues of its N × N Gram matrix, the squared singular values."""
    gram = np.zeros((vectors.shape[1], vectors.shape[1]))  # (N, N), in float64: the squares need its digits
    for start in range(0, len(vectors), TILE):
        rows = vectors[start : start + TILE].astype(np.float64)
        gram += rows.T @ rows
    eigenvalues = np.linalg.eigvalsh(gram)
    return int((eigenvalues > RANK_TOLERANCE**2 * eigenvalues[-1]).sum()) if eigenvalues[-1] > 0 else 0


def distinct_rows(vectors: np.ndarray) -> int:
    """The number of different rows of (V, N); 0.0 and -0.0 are the same."""
    return len({hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in vectors})


def nearest(vectors: np.ndarray, word_id: int, count: int) -> list[tuple[int, float]]:
    """The ids and cosines of the ``count`` rows nearest to row ``word_id`` of (V, N); ties by id."""
    unit = _unit(vectors)
    cosines = unit @ unit[word_id]  # (V,)
    cosines[word_id] = -np.inf
    order = np.argsort(-cosines, kind="stable")[: min(count, len(unit) - 1)]
    return [(int(other), float(cosines[other])) for other in order]


def example_words(words: Sequence[str], counts: np.ndarray | None, count: int) -> list[int]:
    """The ids of some frequent words that say something: from `FIRST_RANK` on and long, before shorter ones.

    Tokens without a letter and markers such as ``<unk>`` are never taken. The same arguments give the
    same words.
    """
    order = range(len(words)) if counts is None else np.argsort(-np.asarray(counts), kind="stable").tolist()
    lettered = [i for i in order if any(map(str.isalpha, words[i])) and not words[i].startswith("<")]
    late = set(lettered[FIRST_RANK:])
    ranked = sorted(lettered, key=lambda i: (i not in late, not _is_content_word(words[i])))  # stable: by frequency
    return ranked[:count]


def _is_content_word(word: str) -> bool:
    return len(word) >= CONTENT_WORD_LENGTH and word.isalpha() and word.lower() not in FUNCTION_WORDS.split()


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The rows at norm 1 as float32; the array itself if they are so already; rows of zeros stay."""
    norms = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)  # (V,)
    if vectors.dtype == np.float32 and np.allclose(norms, 1, rtol=0, atol=1e-6):
        return vectors
    return unit_rows(vectors)
