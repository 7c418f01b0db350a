"""``pretrained``: vectors from a file, aligned with the vocabulary by word."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from embeddings import diagnostics
from embeddings.errors import InputError
from embeddings.files import hash_file, require_regular
from embeddings.methods.missing_words import fill_missing
from embeddings.options import Checked, option
from embeddings.readers import arrays, vocabulary
from embeddings.readers.read_vectors import read_vectors
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

logger = logging.getLogger("embeddings")

SUMMARY = "your own vectors: word2vec text or binary, GloVe, gzip of these, safetensors, npy"
NEEDS_CORPUS = False
OWN_DIM = True
MISSING_RULE = "each missing word gets the mean of the vectors found plus a small seeded noise"
MISSING_SHOWN = 10


@dataclass(frozen=True)
class Options(Checked):
    """How the file is read. As ``--output-embed`` the path itself says which file."""

    file: str = option("", "the file of vectors. Pickle files are never opened", place="hidden")
    vocabulary: str | None = option(
        None, "file with the words of a safetensors or npy file, one a line (none: vocabulary.txt beside it)"
    )
    format: Literal["auto", "text", "binary"] = option("auto", "format of a word2vec file that is not recognised")
    lowercase_fallback: bool = option(
        False, "give a word that the file lacks the vector of its lower-case form, or else of any other spelling"
    )


def recipe(options: Options) -> dict[str, Any]:
    """The options with the files' SHA-256 in place of their paths."""
    path = _path(options)
    beside = path.with_name(vocabulary.NAME)
    words = _vocabulary(options)
    if words is None and beside.is_file() and arrays.is_array(path):
        words = beside
    return {
        "file_sha256": _file_hash(path),
        "vocabulary_file_sha256": _file_hash(words) if words else None,
        "format": options.format,
        # Not true: that stands for an older rule, which tried lower case only, and the cache may hold its matrices.
        "lowercase_fallback": "any case" if options.lowercase_fallback else False,
    }


def build(statistics: CorpusStatistics, dim: int | None, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """The vectors (V, N) of the file's words, and for missing words the rule of `embeddings.methods.missing_words`.

    Args:
        statistics: the vocabulary; its counts weigh the share of running tokens in the log.
        dim: N; None for the file's.
        seed: of the noise on the missing words' vectors.
        options: the file and how to read it.
        progress: shows how much of the file is read.

    Raises:
        InputError: the file is unusable, has another dimension, or no word of the vocabulary.
    """
    path = _path(options)
    found = read_vectors(
        path,
        {word: number for number, word in enumerate(statistics.words)},
        format=options.format,
        lowercase_fallback=options.lowercase_fallback,
        vocabulary=_vocabulary(options),
        vocabulary_hash=statistics.vocabulary_hash,
        dim=dim,
        progress=lambda done, total: progress(f"reading {path.name}", done, total),
    )
    if not found.ids:
        another_case = "" if options.lowercase_fallback else ", or try `lowercase_fallback`"
        raise InputError(
            path, "no word in common with the vocabulary", found=f"words such as {_quoted(found.examples)}",
            expected=f"words such as {_quoted(statistics.words[:5])}",
            fix=f"take vectors of the same language and tokenisation{another_case}",
        )  # fmt: skip
    vectors = np.zeros((len(statistics), found.dim), dtype=np.float32)  # (V, N)
    present = np.zeros(len(statistics), dtype=bool)
    vectors[found.ids] = found.vectors
    present[found.ids] = True
    _pass_over_zero_rows(path, vectors, present)
    _report_share(path, statistics, present)
    _report_rank(path, vectors[present])
    fill_missing(vectors, ~present, np.random.default_rng(seed))
    return vectors


def _path(options: Options) -> Path:
    if not options.file:
        raise InputError("file", "no file of vectors is named", fix="name one by `file` FILE")
    return Path(os.path.expanduser(options.file))


def _vocabulary(options: Options) -> Path | None:
    return None if options.vocabulary is None else Path(os.path.expanduser(options.vocabulary))


def _file_hash(path: Path) -> str:
    try:
        require_regular(path, "a file")
        return hash_file(path)
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror, expected="a file") from None


def _pass_over_zero_rows(path: Path, vectors: np.ndarray, present: np.ndarray) -> None:
    """A row of zeros has no direction: its word counts as missing."""
    zero = present & ~vectors.any(axis=1)
    present &= ~zero
    if not present.any():
        raise InputError(path, "every row of the vocabulary's words is zero", found=f"{zero.sum():,} rows of zeros")
    if zero.any():
        logger.warning("%s: %s rows of zeros; their words count as missing.", path, f"{zero.sum():,}")


def _report_share(path: Path, statistics: CorpusStatistics, present: np.ndarray) -> None:
    counts = np.asarray(statistics.counts, dtype=np.int64)
    share = present.mean()
    tokens = counts[present].sum() / max(int(counts.sum()), 1)
    logger.info(
        "%s: vectors for %s of %s words: %.1f %% of the types, %.1f %% of the running tokens.",
        path, f"{present.sum():,}", f"{len(present):,}", 100 * share, 100 * tokens,
    )  # fmt: skip
    if share < 0.5:
        missing = sorted(np.flatnonzero(~present).tolist(), key=lambda number: -counts[number])
        shown = _quoted([statistics.words[number] for number in missing[:MISSING_SHOWN]])
        logger.warning(
            "%s: less than half of the vocabulary has a vector (%.1f %%); missing are %s …; %s.",
            path, 100 * share, shown, MISSING_RULE,
        )  # fmt: skip


def _report_rank(path: Path, vectors: np.ndarray) -> None:
    rank = diagnostics.rank(vectors)
    if rank < vectors.shape[1]:
        logger.warning(
            "%s: the %s vectors found have rank %d, below their dimension %d.",
            path, f"{len(vectors):,}", rank, vectors.shape[1],
        )  # fmt: skip


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(repr(word) for word in words)
