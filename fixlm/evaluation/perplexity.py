"""Perplexity of a language model on a stream of ids, exact: one stream, carried state, every target once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fixlm.errors import InputError
from fixlm.evaluation.continuous_cache import CacheSettings, ContinuousCache, mix

if TYPE_CHECKING:
    from embeddings.registry import Progress
    from fixlm.corpus.corpus import Corpus
    from fixlm.evaluation.ngrams import NgramMixture
    from fixlm.model.language_model import LanguageModel

WINDOW = 1024
"""Tokens fed at a time: bounds what the model needs, and cannot change the result since the state is carried on."""


@dataclass(frozen=True)
class Score:
    """How well a stream was predicted.

    Args:
        total_nats: summed negative log-likelihood of the targets.
        targets: how many there were: all tokens but the first, which is context only.
        words: words of the original text (with ``<eos>``) behind those targets, where tokens are pieces of words.
    """

    total_nats: float
    targets: int
    words: int | None = None

    @property
    def nll(self) -> float:
        """Mean nats a target."""
        return self.total_nats / self.targets

    @property
    def perplexity(self) -> float:
        """exp(nll), per word or per piece; infinity where that overflows."""
        return perplexity_of(self.nll)

    @property
    def perplexity_per_word(self) -> float | None:
        """exp(total nats / words), which compares with word models; None if the tokens are words."""
        return None if self.words is None else perplexity_of(self.total_nats / self.words)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a perplexity that overflows is None, since JSON has no infinity."""
        values: dict[str, Any] = {
            "perplexity": _finite(self.perplexity),
            "nll": _finite(self.nll),
            "targets": self.targets,
        }
        if self.perplexity_per_word is not None:
            values |= {"perplexity_per_word": _finite(self.perplexity_per_word), "words": self.words}
        return values

    def __str__(self) -> str:
        if self.perplexity_per_word is None:
            return in_digits(self.perplexity)
        return f"{in_digits(self.perplexity_per_word)} per word ({in_digits(self.perplexity)} per piece)"


@dataclass(frozen=True)
class Band:
    """The targets whose word the train split has ``lowest`` to ``highest`` times (None: without a limit).

    Args:
        words: how many words of the vocabulary are in the band.
        targets: how many tokens of the scored split are.
        total_nats: their summed negative log-likelihood.
    """

    lowest: int
    highest: int | None
    words: int
    targets: int
    total_nats: float

    @property
    def perplexity(self) -> float:
        """exp(total nats / targets)."""
        return perplexity_of(self.total_nats / self.targets)

    @property
    def name(self) -> str:
        """``10–99``, or ``10,000 and more``."""
        return f"{self.lowest:,} and more" if self.highest is None else f"{self.lowest:,}–{self.highest:,}"


BAND_STARTS = (0, 10, 100, 1_000, 10_000, math.inf)
"""Counts in the train split at which a band of `by_frequency` begins."""


def evaluate(
    model: LanguageModel,
    corpus: Corpus,
    split: str,
    progress: Progress | None = None,
    cache: CacheSettings | None = None,
    ngrams: NgramMixture | None = None,
) -> Score:
    """Scores a split of the corpus as one stream in float32, summed in float64; leaves the model as it was.

    A batch of streams would be faster and only an approximation: each further stream begins without its context.

    Args:
        cache: a continuous cache to mix in, empty at the first token; none if None.
        ngrams: an n-gram model to mix in before the cache; none if None.

    Raises:
        InputError: the sum is not finite, since a number of the model is not.
    """
    windows = _windows(model, corpus.splits[split], progress, f"evaluate {split}", cache, ngrams)
    total = sum(nll.cpu().double().sum().item() for nll in windows)  # some devices have no float64
    return _score(total, corpus, split)


def target_nats(
    model: LanguageModel,
    corpus: Corpus,
    split: str,
    progress: Progress | None = None,
    cache: CacheSettings | None = None,
) -> np.ndarray:
    """Negative log-likelihood of each target of a split, that is of each token but the first: (n,) float32 nats.

    Scored as by `evaluate`, of which these are the terms.

    Raises:
        InputError: their sum is not finite.
    """
    nats = stream_nats(model, corpus.splits[split], progress, f"evaluate {split}", cache)
    score_of(nats, corpus, split)
    return nats


def stream_nats(
    model: LanguageModel,
    stream: np.ndarray,
    progress: Progress | None = None,
    what: str = "evaluate",
    cache: CacheSettings | None = None,
) -> np.ndarray:
    """Negative log-likelihood of each id of a stream but the first: (n,) ids → (n − 1,) float32 nats."""
    return np.concatenate([nll.cpu().numpy() for nll in _windows(model, stream, progress, what, cache)])


def score_of(nats: np.ndarray, corpus: Corpus, split: str) -> Score:
    """The score that `target_nats` add up to.

    Raises:
        InputError: the sum is not finite.
    """
    return _score(float(nats.sum(dtype=np.float64)), corpus, split)


def _score(total: float, corpus: Corpus, split: str) -> Score:
    if not math.isfinite(total):
        raise InputError(f"{split} split", "the model's loss is not finite", found=f"{total} nats in all")
    return Score(total, len(corpus.splits[split]) - 1, _words(corpus, split))


def _windows(
    model: LanguageModel,
    stream: np.ndarray,
    progress: Progress | None = None,
    what: str = "evaluate",
    cache: CacheSettings | None = None,
    ngrams: NgramMixture | None = None,
) -> Iterator[torch.Tensor]:
    """The nats of the targets of a stream of ids, window by window: (T,) each."""
    past = ContinuousCache(cache.size, [cache.theta]) if cache and cache.size else None
    for hidden, targets, nll in hidden_windows(model, stream, progress, what, ngrams):
        if cache and past:
            nll = mix(nll, past.log_probability(hidden, targets, nll)[0], cache.weight)
        yield nll


@torch.inference_mode()
def hidden_windows(
    model: LanguageModel,
    stream: np.ndarray,
    progress: Progress | None = None,
    what: str = "evaluate",
    ngrams: NgramMixture | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A stream of ids window by window: what the output layer reads (T, H), the targets (T,) and their nats (T,).

    Args:
        ngrams: mixed into the nats.
    """
    ids = torch.from_numpy(stream)
    counted = None if ngrams is None else ngrams.counted.log_probability(stream)
    device = model.input_embedding.weight.device
    training = model.training
    model.eval()
    try:
        state = model.start_state(1)
        for start in range(0, len(ids) - 1, WINDOW):
            window = ids[start : start + WINDOW + 1].long().to(device)
            hidden, state = model(window[:-1, None], state)  # (T, 1, H)
            hidden = hidden.squeeze(1)
            nll = model.output.nll(hidden, window[1:])
            if ngrams is not None and counted is not None:
                nll = mix(nll, counted[start : start + len(nll)].to(nll), ngrams.weight)
            yield hidden, window[1:], nll
            if progress:
                progress(what, start + len(window) - 1, len(ids) - 1)
    finally:
        model.train(training)


def by_frequency(nats: np.ndarray, corpus: Corpus, split: str) -> list[Band]:
    """The targets of a split grouped by how often their word stands in the train split, rare ones first.

    Args:
        nats: (n,) of each target, from `target_nats`.
    """
    frequency = corpus.counts[corpus.splits[split][1:]]
    found = []
    for lowest, highest in itertools.pairwise(BAND_STARTS):
        inside = (frequency >= lowest) & (frequency < highest)
        if inside.any():
            total = float(nats[inside].sum(dtype=np.float64))
            words = int(((corpus.counts >= lowest) & (corpus.counts < highest)).sum())
            most = None if math.isinf(highest) else int(highest) - 1
            found.append(Band(int(lowest), most, words, int(inside.sum()), total))
    return found


def unigram_score(corpus: Corpus, split: str) -> Score:
    """What the train split's word frequencies alone reach: the floor for any model."""
    nats = -corpus.log_unigram()[corpus.splits[split][1:]]
    return Score(float(nats.sum()), len(nats), _words(corpus, split))


def _words(corpus: Corpus, split: str) -> int | None:
    # The first token is no target, so the first word is not counted either, as in a word model.
    return None if corpus.unit == "word" else corpus.word_totals[split] - 1


def perplexity_of(nll: float) -> float:
    """exp of mean nats; infinity where that overflows."""
    return math.inf if nll >= 709 else math.exp(nll)


def in_digits(value: float, decimals: int = 2) -> str:
    """A perplexity for people: ``inf`` where it overflows, and no line of digits just below."""
    return f"{value:,.{decimals}f}" if value < 1e12 or math.isinf(value) else f"{value:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
