"""The continuous cache: a trained model that also looks at what it has just read (Grave, Joulin and Usunier 2017).

    p(w) = (1 − λ) p_model(w) + λ p_cache(w),    p_cache(w) ∝ Σ_i 1[x_{i+1} = w] exp(θ h_t · h_i),

the sum being over the last n tokens before t, each with the hidden state h_i that the output layer read and the word
x_{i+1} that came next. Nothing is trained: n, θ and λ are chosen on the validation split.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fixlm.output.cross_entropy import require_count

SCORES = 2**22
"""Products h_t · h_i in memory at a time, whatever n is."""


@dataclass(frozen=True)
class CacheSettings:
    """A continuous cache.

    Args:
        size: n, how many tokens it looks back.
        theta: θ ≥ 0, flatness: 0 counts past words, a large one trusts the most similar state alone.
        weight: λ, 0 ≤ λ < 1, the cache's part in the mixture.
    """

    size: int
    theta: float
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the flags."""
        return {"size": self.size, "theta": self.theta, "lambda": self.weight}

    def describe(self, unit: str) -> str:
        """``with a cache of 2,000 words (θ 0.66, λ 0.13)``."""
        return f"with a cache of {self.size:,} {unit}s (θ {self.theta:g}, λ {self.weight:g})"


class ContinuousCache:
    """The cache as it moves along one stream: each call goes on where the last one ended.

    Args:
        size: n.
        thetas: values of θ, for each of which a probability is given.
    """

    def __init__(self, size: int, thetas: Sequence[float]) -> None:
        self.size = require_count("size", size)
        self.thetas = thetas
        self.hidden: Tensor | None = None  # (m, H) of the last m ≤ n tokens
        self.words: Tensor | None = None  # (m,) the words that followed them

    @torch.no_grad()
    def log_probability(self, hidden: Tensor, targets: Tensor, nll: Tensor) -> Tensor:
        """log p_cache of each target, −∞ where the cache lacks the word.

        The first token of a stream has no past; there the model's own probability stands for the cache's.

        Args:
            hidden: (T, H) of the next T tokens.
            targets: (T,) the words after them, which enter the cache for later tokens only.
            nll: (T,) nats of the model alone.

        Returns:
            (number of θs, T).
        """
        past = 0 if self.words is None else len(self.words)
        if self.hidden is not None and self.words is not None:
            keys, words = torch.cat([self.hidden, hidden]), torch.cat([self.words, targets])
        else:
            keys, words = hidden, targets
        found = hidden.new_empty(len(self.thetas), len(hidden))
        rows = max(1, SCORES // len(keys))
        for start in range(0, len(hidden), rows):
            stop = min(start + rows, len(hidden))
            first = max(0, past + start - self.size)  # the oldest token that any of these looks at
            seen = slice(first, past + stop)
            distance = torch.arange(past + start, past + stop, device=keys.device)[:, None]
            distance = distance - torch.arange(seen.start, seen.stop, device=keys.device)
            outside = (distance < 1) | (distance > self.size)
            scores = hidden[start:stop] @ keys[seen].t()  # (rows, tokens seen)
            # The largest is taken off first, so that no exponential overflows.
            scores -= scores.masked_fill(outside, -math.inf).amax(1, keepdim=True)
            scores.masked_fill_(outside, 0)  # finite also at θ = 0; their exponentials are taken out below
            matches = words[seen] == targets[start:stop, None]
            for row, theta in enumerate(self.thetas):
                similarity = (theta * scores).exp_().masked_fill_(outside, 0)
                matching = similarity.masked_fill(~matches, 0).sum(1)
                found[row, start:stop] = matching.log() - similarity.sum(1).log()
        if past == 0:
            found[:, 0] = -nll[0]
        self.hidden, self.words = keys[-self.size :].clone(), words[-self.size :].clone()
        return found


def mix(nll: Tensor, other: Tensor, weight: float) -> Tensor:
    """Nats of (1 − λ) p_model + λ p_other, the other being the cache or n-grams.

    Args:
        nll: (T,) nats of the model alone.
        other: (…, T) log p_other.
        weight: λ; with 0, ``nll`` comes back bit for bit.
    """
    if weight == 0:
        return nll.expand_as(other)
    return -torch.logaddexp(math.log1p(-weight) - nll, math.log(weight) + other)
