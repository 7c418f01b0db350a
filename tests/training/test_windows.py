"""Which time steps each training step reads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fixlm.config.schema import OptimizationConfig
from fixlm.training.windows import Windows, window_edges


def windows(length: int, **settings: Any) -> Windows:
    return Windows(length, OptimizationConfig(**settings))


def test_windows_of_a_fixed_length_are_whole_and_the_rest_is_left_out() -> None:
    cut = windows(25, bptt=7, epochs=3)  # 25 time steps: 24 with a target
    assert cut.total == 9
    assert [(cut.at(step).epoch, cut.at(step).start, cut.at(step).stop) for step in (0, 1, 2, 3, 8)] == [
        (0, 0, 7), (0, 7, 14), (0, 14, 21), (1, 0, 7), (2, 14, 21),
    ]  # fmt: skip
    assert [cut.ends_epoch(step) for step in range(1, 7)] == [False, False, True, False, False, True]
    assert [cut.epochs(step) for step in (0, 1, 3, 4, 9)] == [0, 1, 1, 2, 3]
    assert cut.steps(2, 4) == 14
    assert windows(25, bptt=7, epochs=2**32 - 1, max_steps=4).total == 4


def test_windows_of_random_length_follow_each_other_to_the_end_of_the_stream() -> None:
    for epoch in range(20):
        edges = window_edges(3000, 70, 3, epoch)
        assert edges[0] == 0
        assert np.diff(edges).min() >= 5
        assert 3000 - 1 - 5 < edges[-1] <= 3000 - 1  # a rest that makes no window is left out
    assert window_edges(6, 70, 3, 0).tolist() == [0, 5]  # the shortest stream there can be


def test_their_lengths_are_as_merity_keskar_and_socher_drew_them() -> None:
    lengths = np.concatenate([np.diff(window_edges(50_000, 70, seed, 0))[:-1] for seed in range(40)])
    whole = lengths[lengths > 52]
    assert 1 - len(whole) / len(lengths) == pytest.approx(0.05, abs=0.01)
    assert whole.mean() == pytest.approx(69.5, abs=0.2)  # cut to a whole number
    assert whole.std() == pytest.approx(5, abs=0.2)
    assert lengths[lengths <= 52].mean() == pytest.approx(34.5, abs=0.5)
    short = np.diff(window_edges(50_000, 6, 1, 0))
    assert Counter(short.tolist())[5] > 0.3 * len(short)  # none is below 5


def test_they_are_a_function_of_seed_and_epoch() -> None:
    first = window_edges(3000, 70, 3, 0).copy()
    window_edges.cache_clear()
    assert np.array_equal(window_edges(3000, 70, 3, 0), first)
    assert not np.array_equal(window_edges(3000, 70, 3, 1), first)
    assert not np.array_equal(window_edges(3000, 70, 4, 0), first)


def test_the_steps_of_a_run_go_through_every_epoch() -> None:
    cut = windows(700, bptt=30, vary_bptt=True, epochs=4)
    each = [cut.at(step) for step in range(cut.total)]
    for epoch in range(4):
        mine = [window for window in each if window.epoch == epoch]
        assert [w.start for w in mine] + [mine[-1].stop] == window_edges(700, 30, 1, epoch).tolist()
    assert cut.steps(0, cut.total) == sum(map(len, each))
    assert cut.steps(20, 50) == sum(map(len, each[20:50]))
    ends = [step for step in range(1, cut.total + 1) if cut.ends_epoch(step)]
    assert [cut.at(step).start for step in ends[:-1]] == [0, 0, 0]
    assert ends[-1] == cut.total
    assert windows(700, bptt=30, vary_bptt=True, epochs=4, max_steps=ends[0] + 1).total == ends[0] + 1
