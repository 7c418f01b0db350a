"""Several threads: the same results in the same order, and the same bytes of vectors at any number of cores."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from pmi_reference import silent, zipf_text

from embeddings.cross_fit import fold_bounds
from embeddings.methods import cooccurrence, pmi
from embeddings.methods import svd as singular
from embeddings.threads import cores, map_in_threads


def test_results_come_in_order_whichever_is_done_first() -> None:
    second_done = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            second_done.set()
        elif number == 0:
            assert second_done.wait(60)
        return number * number

    assert [*map_in_threads(work, range(5), threads=2)] == [0, 1, 4, 9, 16]


def test_no_more_is_begun_than_there_are_threads() -> None:
    begun = itertools.count()

    def items() -> Iterator[int]:
        for number in range(9):
            next(begun)
            yield number

    results = map_in_threads(lambda number: number, items(), threads=3)
    next(results)
    assert next(begun) == 3


def test_an_error_of_the_work_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        [*map_in_threads(lambda number: 1 // number, [1, 0, 2], threads=2)]


def test_vectors_are_the_same_bytes_at_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "DENSE_LIMIT", 0)
    monkeypatch.setattr(cooccurrence, "CHUNK", 999)
    text, options = zipf_text(300, 6000), pmi.Options(lags="1,4", context="left")

    def vectors(count: int) -> list[bytes]:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(count), raising=False)
        assert cores() == min(count, 4)
        whole, parts = pmi.build_with_folds(text, 12, 1, options, fold_bounds(6000, 5), silent)
        return [np.ascontiguousarray(each).tobytes() for each in (whole, *parts)]

    assert vectors(1) == vectors(3) == vectors(9)
