"""The codes of the walsh layer: which words share the first half of their code, and which half tells them apart.

With M positions, the word in block c at position i has the code [H_M[i], H_M[i] ∘ d_c] in {−1, +1}^2M: H_M the
Sylvester matrix, d_c the signs of `embeddings.methods.hadamard`. The words at one position are a family. They share
the first half of the code, so whatever of a text speaks for one of them speaks for all, and a family should hold
words of one kind.

The layer never needs the codes themselves, only the slot c·M + i of each word: see `Codebook`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embeddings.errors import InputError
from embeddings.methods import hadamard, pmi, svd
from embeddings.options import Checked, Count, NonNegative, option
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

SUMMARY = "±1 codes in two halves: a family's, grouped by meaning, and one that tells its words apart"
NEEDS_CORPUS = True
COUNTS_PAIRS = True
VERSION = svd.VERSION
OWN_DIM = True
CODES = True
SMALLEST, LARGEST = 16, 8192
PMI_DIM = 200
CANDIDATES = 256
"""Nearest heads that are ranked for each word; only where all those families are full, the others are looked at."""
CHUNK = 1024
"""Words whose similarities to all heads are in memory at a time."""


@dataclass(frozen=True)
class Options(Checked):
    """The size of the layer and how words are put into families."""

    families: int = option(2048, "M, the number of families (positions of the code): a power of two from 16 to 8,192")
    positions: Literal["pmi", "frequency", "random"] = option(
        "pmi", "how words are put into families: by their PMI vectors, by frequency rank, or at random"
    )
    pmi_dim: Count | None = option(
        None, "length of the PMI vectors that form the families (none: 200, less for a small vocabulary)"
    )
    pmi_discount: NonNegative = option(1.0, "--pmi-discount of these vectors", before=0.0)
    family_size: Count | None = option(
        None,
        "largest number of words in a family (none: V/M rounded up, which fills nearly all families). With more "
        "room a rare word joins words of its kind, and each step takes longer",
    )
    halves: Literal["both", "shared", "own"] = option(
        "both", "which halves of the code are used. One alone is for studies"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        families = self.families
        if families & (families - 1) or not SMALLEST <= families <= LARGEST:
            expected = f"a power of two from {SMALLEST} to {LARGEST:,}"
            raise InputError("families", "not a possible number of families", found=families, expected=expected)


def build(statistics: CorpusStatistics, dim: int | None, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """All codes as a matrix, to look at and to compare: (V, 2M), or (V, M) for one half alone.

    Raises:
        InputError: as `slots`, or ``dim`` is given and is not the length of the codes.
    """
    length = options.families * (2 if options.halves == "both" else 1)
    if dim not in (None, length):
        fix = "leave the dimension out, or change the number of families"
        raise InputError("dim", "a walsh code has another length", found=dim, expected=length, fix=fix)
    return codes(slots(statistics, seed, options, progress), options.families, options.halves)


def codes(word_slots: np.ndarray, families: int, halves: str = "both") -> np.ndarray:
    """The codes of the words in the given slots: (V,) → (V, 2M) or (V, M) float32, ±1."""
    block, position = np.divmod(word_slots, families)
    shared = hadamard.sylvester_rows(families, families)[position]
    own = shared * hadamard.block_signs(int(block.max()) + 1, families)[block]
    parts = {"both": (shared, own), "shared": (shared,), "own": (own,)}[halves]
    return np.concatenate(parts, axis=1).astype(np.float32)


def slots(statistics: CorpusStatistics, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """The slot c·M + i of each word, no two alike, in as many blocks as the largest family has words: (V,) int64.

    By ``pmi`` the M most frequent words are the heads of the families, in block 0. Each further word, by falling
    frequency, joins the family that has room and whose head has the PMI vector (U·S^½, uncentred) of the largest
    cosine with its own. By ``frequency`` the word of rank k has slot k.

    Raises:
        InputError: the number of families is no power of two in range or too small for V words, their size is out of
            range, or the text does not yield PMI vectors.
    """
    families, size = options.families, len(statistics)
    largest = _largest_family(size, options)
    by_rank = np.argsort(-statistics.counts, kind="stable")
    found = np.empty(size, dtype=np.int64)
    if options.positions == "random":
        blocks = -(-size // families)
        return np.random.default_rng(seed).permutation(blocks * families)[:size]
    if options.positions == "frequency" or size <= families:
        found[by_rank] = np.arange(size)
        return found
    found[by_rank] = _join_nearest(
        _directions(statistics, seed, options, progress)[by_rank], families, largest, progress
    )
    return found


def _largest_family(size: int, options: Options) -> int:
    """How many of V words a family may hold: ⌈V/M⌉ or more, and no more than could join it or have signs."""
    families = options.families
    fewest, blocks = -(-size // families), hadamard.row_count(families) // families
    if fewest > blocks:
        what = f"too few for {size:,} words"
        raise InputError("families", what, found=families, expected=f"at least {hadamard.enough_columns(size)}")
    if options.family_size is None:
        return fewest
    most = min(blocks, max(1, size - families + 1))
    if not fewest <= options.family_size <= most:
        expected = f"{fewest:,} to {most:,} for {size:,} words in {families:,} families"
        fix = "choose one of those, or leave it out"
        raise InputError("family_size", "out of range", found=options.family_size, expected=expected, fix=fix)
    return options.family_size


def _directions(statistics: CorpusStatistics, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """PMI vectors scaled to 1: (V, pmi_dim)."""
    dim = min(PMI_DIM, len(statistics) // 2) if options.pmi_dim is None else options.pmi_dim
    try:
        settings = pmi.Options(context="symmetric", window=5, centre=False, discount=options.pmi_discount)
        vectors = pmi.build(statistics, dim, seed, settings, progress)
    except InputError as error:
        raise (error.at(f"pmi_{error.where}") if error.where in ("dim", "discount") else error) from None
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _join_nearest(directions: np.ndarray, families: int, largest: int, progress: Progress) -> np.ndarray:
    """Slots of words by falling frequency, the heads first: (V, dim) → (V,)."""
    size = len(directions)
    heads = directions[:families].T
    members = np.ones(families, dtype=np.int64)
    chosen = np.arange(size)
    for start in range(families, size, CHUNK):
        similarity = directions[start : start + CHUNK] @ heads  # (chunk, M)
        near = np.argpartition(-similarity, min(CANDIDATES, families) - 1, axis=1)[:, :CANDIDATES]
        order = np.argsort(-np.take_along_axis(similarity, near, 1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, 1)
        for word, candidates in enumerate(near):
            room = members[candidates] < largest
            if room.any():
                position = candidates[room.argmax()]
            else:
                position = np.where(members < largest, similarity[word], -np.inf).argmax()
            chosen[start + word] = members[position] * families + position
            members[position] += 1
        progress("walsh families", min(start + CHUNK, size) - families, size - families)
    return chosen


def reads_text(options: Options) -> bool:
    """Whether the slots depend on the text beyond its vocabulary and counts."""
    return options.positions == "pmi"


def used(options: Options) -> dict[str, object]:
    """The options that the slots depend on: the halves are taken at the layer. No size, no trace of it."""
    without = {"halves"} | ({"family_size"} if options.family_size is None else set())
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in without}
