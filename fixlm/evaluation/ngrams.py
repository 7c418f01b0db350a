"""An n-gram model that is counted and not trained: interpolated modified Kneser-Ney (Chen and Goodman 1999).

For a word w after the n − 1 words h, and h' those of them without the first,

    p(w | h) = max(0, c(h w) − D(c(h w))) / c(h) + γ(h) p(w | h').

c is how often the text has a sequence, for the longest sequences. For shorter ones it is how many different words
stand before them. D(1), D(2) and D(3 and more) are discounts out of the counts of counts, and γ(h) gives what they
took to the shorter context. The last step adds a uniform distribution over the vocabulary, so that each word has a
probability. After a context that the text never has, the shorter one decides alone.
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

BITS = 64
"""Of the number that a sequence is held as."""


def largest_order(vocabulary_size: int) -> int:
    """The longest n that a vocabulary allows: n ids are held as one number of 64 bits."""
    return BITS // _bits(vocabulary_size)


class KneserNey:
    """The probabilities of words after up to n − 1 others, counted on a text.

    Args:
        ids: (tokens,) the text.
        vocabulary_size: V.
        order: n, 1 for the words alone.

    Raises:
        ValueError: n is not in 1 … `largest_order`, or the text is shorter.
    """

    def __init__(self, ids: np.ndarray, vocabulary_size: int, order: int) -> None:
        if not 1 <= order <= min(largest_order(vocabulary_size), len(ids)):
            raise ValueError(f"order {order} of {len(ids)} tokens and {vocabulary_size} words")
        self.order = order
        self._shift = np.uint64(_bits(vocabulary_size))
        self._tables: list[_Table] = []  # of the lengths n … 2
        keys, counts = np.unique(self._keys(ids, order), return_counts=True)
        for length in range(order, 1, -1):
            self._tables.append(_Table.of(keys, counts, self._shift))
            # A sequence is in the keys once for each different word that begins it.
            shorter = keys & np.uint64((1 << int(self._shift) * (length - 1)) - 1)
            keys, counts = np.unique(shorter, return_counts=True)
        taken = _discounts(counts)[np.minimum(counts, 3)]
        self._words = np.full(vocabulary_size, taken.sum() / counts.sum() / vocabulary_size)  # (V,)
        self._words[keys.astype(np.int64)] += (counts - taken) / counts.sum()

    def log_probability(self, ids: np.ndarray) -> np.ndarray:
        """log p of each id of a text after those before it: (tokens,) → (tokens,) float64.

        The first ones have fewer than n − 1 words before them, and the very first one has none.
        """
        found: np.ndarray = self._words[ids]
        for length, table in enumerate(reversed(self._tables), start=2):
            if len(ids) >= length:
                found[length - 1 :] = table.interpolate(self._keys(ids, length), found[length - 1 :], self._shift)
        logs: np.ndarray = np.log(found)
        return logs

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
        contexts, left_over: of h, γ(h).
    """

    sequences: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    left_over: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, shift: np.uint64) -> _Table:
        contexts, place = np.unique(keys >> shift, return_inverse=True)
        totals = np.bincount(place, counts)
        taken = _discounts(counts)[np.minimum(counts, 3)]
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
        counted = torch.from_numpy(self.counted.log_probability(stream)[1:])
        return mix(torch.from_numpy(nats).double(), counted, self.weight).numpy()

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the flags."""
        return {"order": self.counted.order, "lambda": self.weight}

    def describe(self) -> str:
        """``with 4-grams (λ 0.15)``."""
        return f"with {self.counted.order}-grams (λ {self.weight:g})"


WEIGHTS = tuple(percent / 100 for percent in range(0, 100, 2))
"""Values of λ that `choose` tries; with the first, no n-grams are worse than none."""


def count(corpus: Corpus, order: int) -> KneserNey:
    """The n-gram model of the train split.

    Raises:
        InputError: n is too large for the vocabulary or the text.
    """
    train, most = corpus.splits["train"], largest_order(len(corpus))
    if not 1 <= order <= (most := min(most, len(train))):
        what = f"{len(corpus):,} words and {len(train):,} tokens"
        raise InputError("--ngram-order", f"not an order for {what}", found=order, expected=f"1 to {most}")
    return KneserNey(train, len(corpus), order)


def choose(counted: KneserNey, valid_nats: np.ndarray, corpus: Corpus) -> NgramMixture:
    """The λ of `WEIGHTS` with the lowest perplexity of the valid split; of equals the smaller.

    Args:
        valid_nats: (n,) of each target of the valid split, by the model alone.
    """
    nats = torch.from_numpy(valid_nats).double()
    logs = torch.from_numpy(counted.log_probability(corpus.splits["valid"])[1:])
    return NgramMixture(counted, min(WEIGHTS, key=lambda weight: mix(nats, logs, weight).sum().item()))
