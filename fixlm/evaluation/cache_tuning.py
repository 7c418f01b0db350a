"""The continuous cache's θ and λ, chosen on the valid split."""

import itertools

import torch

from embeddings.registry import Progress
from fixlm.corpus.corpus import Corpus
from fixlm.evaluation.continuous_cache import CacheSettings, ContinuousCache, mix
from fixlm.evaluation.ngrams import NgramMixture
from fixlm.evaluation.perplexity import hidden_windows
from fixlm.model.language_model import LanguageModel

THETAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Values of θ that `choose` tries. How large h · h is depends on H and on the layer, so that they span decades."""

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Values of λ that `choose` tries; with the first, no cache is worse than none."""


def choose(
    model: LanguageModel,
    corpus: Corpus,
    size: int,
    progress: Progress | None = None,
    ngrams: NgramMixture | None = None,
) -> CacheSettings:
    """The θ of `THETAS` and λ of `WEIGHTS` with the lowest perplexity of the valid split; of equals the smaller.

    One pass: the products h_t · h_i serve all of them.

    Args:
        size: n.
        ngrams: mixed in before the cache; none if None.
    """
    cache = ContinuousCache(size, THETAS)
    totals = torch.zeros(len(WEIGHTS), len(THETAS), dtype=torch.float64)
    stream = corpus.splits["valid"]
    for hidden, targets, nll in hidden_windows(model, stream, progress, "choose θ and λ on valid", ngrams):
        cached = cache.log_probability(hidden, targets, nll)
        for row, weight in enumerate(WEIGHTS):
            totals[row] += mix(nll, cached, weight).double().sum(1).cpu()
    pairs = itertools.product(WEIGHTS, THETAS)
    _, weight, theta = min((total, *pair) for total, pair in zip(totals.flatten().tolist(), pairs, strict=True))
    return CacheSettings(size, theta, weight)
