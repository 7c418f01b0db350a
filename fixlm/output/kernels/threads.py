"""Kernels in as many threads as torch uses.

Not in numba's own threads: those would stay, and compete with torch's for the processor. Kernels release Python's lock,
so that plain threads do; to start them costs far less than the work of one call.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

ENOUGH = 2**19
"""Numbers that are worth a thread of their own."""


def in_threads(work: Callable[[slice, int], None], length: int, width: int, multiple: int) -> None:
    """Calls ``work(part, thread)`` for the parts of range(length), each in a thread of its own.

    The parts depend on the number of torch's threads only, never on which thread is faster: what the threads sum is
    added in the same order each time.

    Args:
        width: numbers that each element of the range stands for.
        multiple: of which all but the last part are.
    """
    threads = min(torch.get_num_threads(), length // multiple, length * width // ENOUGH)
    if threads <= 1:
        work(slice(0, length), 0)
        return
    size = -(-length // (threads * multiple)) * multiple
    parts = [slice(start, min(start + size, length)) for start in range(0, length, size)]
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts, range(len(parts))))
