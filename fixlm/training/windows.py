"""Which part of the train split each step reads: windows of a fixed length, or of a random one."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fixlm.config.schema import OptimizationConfig

SHORTEST = 5
"""Time steps of a window, at least, where the length varies (Merity, Keskar and Socher 2017)."""
DEVIATION = 5.0
"""Standard deviation of the length around its mean."""
WHOLE = 0.95
"""How often that mean is the whole of ``--bptt``; else it is half of it."""


def in_streams(ids: np.ndarray, batch_size: int) -> Tensor:
    """One stream of ids cut into B streams side by side: (tokens,) → (L, B) int32."""
    length = len(ids) // batch_size
    return torch.from_numpy(ids[: length * batch_size]).view(batch_size, length).t().contiguous()


@dataclass(frozen=True)
class Window:
    """Time steps ``start`` to ``stop`` of the streams, in a pass over them that counts from 0."""

    epoch: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@lru_cache(maxsize=4)
def window_edges(length: int, bptt: int, seed: int | None, epoch: int) -> np.ndarray:
    """Where the windows of one epoch begin and end: (windows + 1,), the first 0.

    Each window needs one time step more, the target of its last. What is left at the end, fewer than ``bptt`` steps
    or, where the length varies, fewer than `SHORTEST`, is no window.

    Args:
        length: time steps L of the streams.
        bptt: T.
        seed: of lengths max(5, ⌊N(T, 5)⌋), with T/2 in place of T once in twenty windows; None: T always. The lengths
            are a function of these arguments alone, so that a resumed run has the same.
    """
    if seed is None:
        return np.arange((length - 1) // bptt + 1) * bptt
    draw = np.random.default_rng((seed, epoch))
    edges = np.zeros(1, dtype=np.int64)
    while edges[-1] < length - 1:
        means = np.where(draw.random(1 + length // bptt) < WHOLE, bptt, bptt / 2)
        lengths = np.maximum(SHORTEST, draw.normal(means, DEVIATION).astype(np.int64))
        edges = np.concatenate([edges, edges[-1] + lengths.cumsum()])
    inside = edges[edges < length - 1]
    rest = length - 1 - inside[-1]
    return np.append(inside, length - 1) if rest >= SHORTEST else inside


class Windows:
    """The window of every step of a run.

    Args:
        length: time steps L of the streams.
        settings: ``epochs``, ``max_steps``, ``bptt``, ``vary_bptt`` and ``seed`` of it.
    """

    def __init__(self, length: int, settings: OptimizationConfig) -> None:
        self.length, self.settings = length, settings
        # Steps taken, and time steps read, before each epoch and behind the last. Ranges where all epochs are the
        # same, since there may be billions of them where --max-steps is what ends the run.
        self.first: Sequence[int]
        self.read: Sequence[int]
        if settings.vary_bptt:
            self.first, self.read = self._epoch_by_epoch()
        else:
            edges = self._edges(0)
            self.first = _multiples(len(edges) - 1, settings.epochs)
            self.read = _multiples(int(edges[-1]), settings.epochs)
        self.total = min(self.first[-1], settings.max_steps or self.first[-1])
        """Steps of the run."""

    @staticmethod
    def shortest_stream(settings: OptimizationConfig) -> int:
        """Time steps that one window with its last target needs."""
        return max(settings.bptt, SHORTEST if settings.vary_bptt else 1) + 1

    def at(self, step: int) -> Window:
        """The window of the step after so many."""
        epoch = bisect_right(self.first, step) - 1
        start, stop = self._edges(epoch)[step - self.first[epoch] :][:2]
        return Window(epoch, int(start), int(stop))

    def epochs(self, step: int) -> int:
        """How many epochs have begun when so many steps are taken."""
        return bisect_left(self.first, step)

    def passes(self, step: int) -> float:
        """How many times the streams have been read by then, the epoch under way as the part of it that is done."""
        epoch = max(0, self.epochs(step) - 1)
        return epoch + (self._steps_before(step) - self.read[epoch]) / (self.read[epoch + 1] - self.read[epoch])

    def ends_epoch(self, step: int) -> bool:
        """Whether the step that makes it so many is the last of an epoch."""
        return self.first[self.epochs(step)] == step

    def steps(self, begin: int, end: int) -> int:
        """Time steps of each stream that steps ``begin`` to ``end`` read."""
        return self._steps_before(end) - self._steps_before(begin)

    def _steps_before(self, step: int) -> int:
        epoch = max(0, self.epochs(step) - 1)
        return self.read[epoch] + int(self._edges(epoch)[step - self.first[epoch]])

    def _edges(self, epoch: int) -> np.ndarray:
        vary = self.settings.vary_bptt
        return window_edges(self.length, self.settings.bptt, self.settings.seed if vary else None, epoch if vary else 0)

    def _epoch_by_epoch(self) -> tuple[list[int], list[int]]:
        first, read = [0], [0]
        for epoch in range(self.settings.epochs):
            edges = self._edges(epoch)
            first.append(first[-1] + len(edges) - 1)
            read.append(read[-1] + int(edges[-1]))
            if self.settings.max_steps and first[-1] >= self.settings.max_steps:
                break
        return first, read


def _multiples(of: int, most: int) -> range:
    return range(0, (most + 1) * of, of)
