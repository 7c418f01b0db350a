"""An n-gram model that is counted and not trained: interpolated modified Kneser-Ney (Chen and Goodman 1999).

For a word w after the n − 1 words h, and h' those of them without the first,

    p(w | h) = (c(h w) − D(c(h w)) + T(h) p(w | h')) / Σ_v c(h v),    T(h) = Σ_v D(c(h v)).

c(h w) is how often the text has these n words. Of a shorter sequence it is how many different words stand before it.
D(1), D(2) and D(3 and more) are discounts, which follow from how many sequences were counted once, twice and so on.
D(0) is 0. T(h) is what they took, and the shorter context shares it out. The shortest context shares it out evenly over
the vocabulary, so that each word has a probability. After a context that the text never has, the shorter one decides
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fixlm.errors import InputError
from fixlm.evaluation.continuous_cache import mix

if TYPE_CHECKING:
    from fixlm.corpus.corpus import Corpus


class KneserNey:
    """The probabilities of words after up to n − 1 others, counted on a text.

    Args:
        ids: (tokens,) the text.
        vocabulary_size: V.
        order: n, from 1, the words alone, to `largest_order`.

    Raises:
        InputError: n is below 1, or n ids do not fit into 64 bits.
    """

    def __init__(self, ids: np.ndarray, vocabulary_size: int, order: int) -> None:
        if order < 1:
            raise InputError("order", "an n-gram has a word at least", found=order, expected="1 and more")
        if order * _bits(vocabulary_size) > 64:
            most = 64 // _bits(vocabulary_size)
            raise InputError("order", f"too long for {vocabulary_size:,} words", found=order, expected=f"1 to {most}")
        self.order = order
        self._shift = np.uint64(_bits(vocabulary_size))
        self._tables: list[_Table] = []  # of the lengths n … 2
        keys, counts = np.unique(self._keys(ids, order), return_counts=True)
        for length in range(order, 1, -1):
            self._tables.append(_Table.of(keys, counts, self._shift))
            # A sequence is in the keys once for each different word that begins it.
            shorter = keys & np.uint64((1 << int(self._shift) * (length - 1)) - 1)
            keys, counts = np.unique(shorter, return_counts=True)
        taken = _taken(counts)
        self._words = np.full(vocabulary_size, taken.sum() / counts.sum() / vocabulary_size)  # (V,)
        self._words[keys.astype(np.int64)] += (counts - taken) / counts.sum()

    def log_probability(self, ids: np.ndarray) -> torch.Tensor:
        """log p of each id of a text but the first, after those before it: (tokens,) → (tokens − 1,) float64.

        The first ones have fewer than n − 1 words before them.
        """
        found: np.ndarray = self._words[ids]
        for length, table in enumerate(reversed(self._tables), start=2):
            if len(ids) >= length:
                found[length - 1 :] = table.interpolate(self._keys(ids, length), found[length - 1 :], self._shift)
        return torch.from_numpy(np.log(found[1:]))

    def _keys(self, ids: np.ndarray, length: int) -> np.ndarray:
        """The sequences of some length as numbers, in the order of the text: (tokens − length + 1,) uint64."""
        keys = np.zeros(len(ids) - length + 1, dtype=np.uint64)
        for first in range(length):
            keys = (keys << self._shift) | ids[first : first + len(keys)].astype(np.uint64)
        return keys


@dataclass(frozen=True)
class _Table:
    """What is known of the sequences h w of one length: sorted keys and a number for each.

    Args:
        sequences, discounted: of h w, (c − D(c)) / c(h).
        contexts, left_over: of h, T(h) / Σ_v c(h v).
    """

    sequences: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    left_over: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, shift: np.uint64) -> _Table:
        contexts, place = np.unique(keys >> shift, return_inverse=True)
        totals = np.bincount(place, counts)
        taken = _taken(counts)
        return cls(keys, (counts - taken) / totals[place], contexts, np.bincount(place, taken) / totals)

    def interpolate(self, keys: np.ndarray, shorter: np.ndarray, shift: np.uint64) -> np.ndarray:
        """p(w | h) of sequences h w, given p(w | h')."""
        part: np.ndarray = _find(self.contexts, self.left_over, keys >> shift, 1.0) * shorter
        part += _find(self.sequences, self.discounted, keys, 0.0)
        return part


def _find(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, otherwise: float) -> np.ndarray:
    """The value of each wanted key among sorted ones, or ``otherwise``."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], otherwise)


def _taken(counts: np.ndarray) -> np.ndarray:
    """D(c) of each count."""
    found: np.ndarray = _discounts(counts)[np.minimum(counts, 3)]
    return found


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D(0) = 0, D(1), D(2) and D(3) by the counts of counts, each at least 0 and below its count.

    D(c) = c − (c + 1) Y n_{c+1} / n_c with Y = n_1 / (n_1 + 2 n_2) and n_c the number of sequences counted c times.
    Where a text is too short to have all of them, D(c) is the c/2 that lies in the middle.
    """
    of = np.bincount(np.minimum(counts, 5), minlength=6)
    found = np.zeros(4)
    for count in (1, 2, 3):
        some = of[1] > 0 and of[count] > 0
        y = of[1] / (of[1] + 2 * of[2]) if some else 0.0
        value = count - (count + 1) * y * of[count + 1] / of[count] if some else count / 2
        found[count] = value if 0 < value < count else count / 2
    return found


def _bits(vocabulary_size: int) -> int:
    return max(1, (vocabulary_size - 1).bit_length())


@dataclass(frozen=True)
class NgramMixture:
    """An n-gram model to mix in: p(w) = (1 − λ) p_model(w) + λ p_n-gram(w).

    Args:
        counted: the n-gram model.
        weight: λ, 0 ≤ λ < 1.
    """

    counted: KneserNey
    weight: float

    def mix(self, nats: np.ndarray, stream: np.ndarray) -> np.ndarray:
        """Nats of the mixture: (n − 1,) float64.

        Args:
            nats: (n − 1,) of each id of a stream but the first, by the model alone.
            stream: (n,) the ids.
        """
        return mix(torch.from_numpy(nats).double(), self.counted.log_probability(stream), self.weight).numpy()

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the flags."""
        return {"order": self.counted.order, "lambda": self.weight}

    def describe(self) -> str:
        """``with 4-grams (λ 0.15)``."""
        return f"with {self.counted.order}-grams (λ {self.weight:g})"


WEIGHTS = tuple(percent / 100 for percent in range(0, 100, 2))
"""Values of λ that `choose` tries; with the first, no n-grams are worse than none."""


def largest_order(corpus: Corpus) -> int:
    """The longest n for a text: n ids must fit into one number of 64 bits, and the text must have as many.

    It is 4 at a vocabulary of 65,536, and more at smaller ones.
    """
    return min(64 // _bits(len(corpus)), len(corpus.splits["train"]))


def check_order(corpus: Corpus, order: int) -> None:
    """Raises InputError if n is too large for the vocabulary or the text."""
    if order > (most := largest_order(corpus)):
        what = (
            f"too long for a vocabulary of {len(corpus):,} and a train split of {len(corpus.splits['train']):,} tokens"
        )
        raise InputError("--ngram-order", what, found=order, expected=f"at most {most}")


def count(corpus: Corpus, order: int) -> KneserNey:
    """The n-gram model of the train split.

    Raises:
        InputError: as `check_order`.
    """
    check_order(corpus, order)
    return KneserNey(corpus.splits["train"], len(corpus), order)


def choose(counted: KneserNey, valid_nats: np.ndarray, corpus: Corpus) -> NgramMixture:
    """The λ of `WEIGHTS` with the lowest perplexity of the valid split; of equals the smaller.

    Args:
        valid_nats: (n,) of each target of the valid split, by the model alone.
    """
    nats = torch.from_numpy(valid_nats).double()
    logs = counted.log_probability(corpus.splits["valid"])
    return NgramMixture(counted, min(WEIGHTS, key=lambda weight: mix(nats, logs, weight).sum().item()))
