"""Co-occurrence counts that are made on a Dask cluster, with the bytes of one process.

Sums of floating-point numbers depend on their order. A tree that adds pairs of partitions would therefore give other
last bits than one process, which adds them in the order of the text. Here the tree branches by rows. The counts of each
partition are cut into blocks of rows, the blocks of the same rows are added in the order of the text, and in the end
they are stacked. So every entry of the matrix is added up as in one process.

The ids of a partition are part of its task, so that the scheduler can have it counted again when a worker dies.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SECONDS = 10
"""How long a scheduler may take to answer."""
Segment = tuple[np.ndarray, int]
"""The ids of a partition with those that its pairs reach to, and how many of them are its own."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """A client of the cluster whose scheduler has this address, or None for no address.

    Raises:
        InputError: Dask is not installed, no scheduler answers, or it has no workers.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("dask", "Dask is not installed", fix="pip install 'fixlm[dask]'") from None
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said in one line here
    try:
        client = Client(address, timeout=SECONDS)
    except (OSError, ValueError):
        fix = "start one by `dask scheduler`, whose log shows its address"
        raise InputError("dask", "no scheduler answers there", found=address, fix=fix) from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise InputError("dask", "the scheduler has no workers", fix=f"start some by `dask worker {address}`")
        yield client


def ordered_sum(
    client: Any,
    count: Callable[[np.ndarray, int], csr_array],
    segments: Iterable[Segment],
    bounds: np.ndarray,
    counted: Callable[[int], None],
) -> csr_array:
    """The sum of ``count(ids, own)`` over all partitions, in their order.

    Args:
        client: as `connected` gives it.
        count: gives the counts (V, V) of one partition; called on the workers.
        segments: the partitions.
        bounds: (blocks + 1,) where the blocks of rows begin and end.
        counted: called with the number of partitions that are counted.

    Returns:
        (V, V) float64 in CSR format.

    Raises:
        InputError: workers died of a partition again and again, cannot count, or the scheduler went away.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed
    from scipy.sparse import csr_array, vstack

    parts, sums = _submitted(client, count, segments, bounds)
    done = as_completed(parts)
    parts.clear()  # so that the workers may forget what is added already
    try:
        for number, part in enumerate(done, start=1):
            if part.status == "error":
                part.result()  # raises what the worker raised
            counted(number)
        return csr_array(vstack(client.gather(sums), format="csr"))
    except KilledWorker as error:
        fix = "give them more memory, or look at their logs"
        raise InputError("dask", "workers died while they counted", found=error.last_worker.address, fix=fix) from None
    except CancelledError:
        raise InputError("dask", "the scheduler went away while it counted", fix="start it again") from None
    except (ImportError, AttributeError, TypeError, RuntimeError) as error:  # what this process sends is unknown there
        cause = error.__cause__ or error
        fix = "install the same version of fixlm on the machines of the scheduler and of all workers"
        raise InputError(
            "dask", "the cluster cannot count", found=f"{type(cause).__name__}: {cause}", fix=fix
        ) from error


def _submitted(
    client: Any, count: Callable[[np.ndarray, int], csr_array], segments: Iterable[Segment], bounds: np.ndarray
) -> tuple[list[Any], list[Any]]:
    """The futures of all partitions' counts, and of the sum of each block of rows."""
    submit = functools.partial(client.submit, pure=False)
    parts, sums = list[Any](), list[Any]()
    # The sums are asked for along with the counts, so that the scheduler does not put them off to the end.
    for segment in segments:
        part = submit(_in_blocks, count, *segment, bounds)
        blocks = [submit(operator.getitem, part, block) for block in range(len(bounds) - 1)]
        sums = [submit(operator.add, *pair) for pair in zip(sums, blocks, strict=True)] if parts else blocks
        parts.append(part)
    return parts, sums


def _in_blocks(
    count: Callable[[np.ndarray, int], csr_array], ids: np.ndarray, own: int, bounds: np.ndarray
) -> list[csr_array]:
    """The counts of one partition, cut into blocks of rows."""
    counts = count(ids, own)
    return [counts[start:end] for start, end in itertools.pairwise(bounds)]
