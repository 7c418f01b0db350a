"""Small texts, and the cells of `pmi` and `cca` by their formulas."""

from __future__ import annotations

import math

import numpy as np

from embeddings import CorpusStatistics


def silent(*_: object) -> None:
    pass


def zipf_text(size: int, tokens: int, seed: int = 1) -> CorpusStatistics:
    """A text in which each word calls for some others, so that PMI has something to find."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, size + 1)
    ids = rng.choice(size, tokens, p=frequency / frequency.sum())
    follow = rng.random(tokens - 1) < 0.5
    ids[1:][follow] = (3 * ids[:-1][follow] + rng.integers(0, 3, follow.sum())) % size
    words = [f"w{i}" for i in range(size)]
    return CorpusStatistics(words, np.bincount(ids, minlength=size), ids, end_of_line=0)


def dense_ppmi(counts: np.ndarray, smoothing: float, shift: float, discount: float = 0) -> np.ndarray:
    """Levy, Goldberg and Dagan (2015), equations 3 and 5, entry by entry, and the discount."""
    total = counts.sum()
    smoothed = sum(counts[:, c].sum() ** smoothing for c in range(counts.shape[1]))
    result = np.zeros_like(counts)
    for w, c in zip(*np.nonzero(counts), strict=True):
        joint = counts[w, c] / total
        independent = counts[w].sum() / total * (counts[:, c].sum() ** smoothing / smoothed)
        positive = max(0.0, math.log(joint / independent) - math.log(shift))
        result[w, c] = positive * counts[w, c] / (counts[w, c] + discount)
    return result


def dense_root_correlation(counts: np.ndarray, smoothing: float) -> np.ndarray:
    """Stratos, Collins and Hsu (2015): the correlation of a word and a context, all counts under a square root."""
    result = np.zeros_like(counts)
    for w, c in zip(*np.nonzero(counts), strict=True):
        word, context = math.sqrt(counts[w].sum()), math.sqrt(counts[:, c].sum() ** smoothing)
        result[w, c] = math.sqrt(counts[w, c]) / math.sqrt(word * context)
    return result
