"""Work on several cores within one process: numpy and scipy let go of Python's lock while they compute."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 4
"""More threads hold more at a time than they save."""


def cores() -> int:
    """How many threads are worth having: the cores that this process may use, and `MOST` at most."""
    may_use = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(may_use, MOST)


def map_in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """``map(work, items)``, in order, with as many results under way as there are threads and no more.

    Args:
        threads: `cores` if None.
    """
    threads = cores() if threads is None else threads
    under_way = deque[Future[Result]]()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) == threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
