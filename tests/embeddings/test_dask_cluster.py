"""Counting on a Dask cluster: the bytes of one process, also when a worker dies."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pmi_reference import zipf_text

import embeddings
from embeddings import InputError, OutputMatrix, dask_cluster
from embeddings.dask_cluster import connected
from embeddings.methods import cooccurrence
from embeddings.methods.pmi import Options

distributed = pytest.importorskip("distributed")
TEXT = zipf_text(300, 40_000)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers, each a process of its own."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as two:
        yield two.scheduler_address


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four partitions of the text."""
    monkeypatch.setattr(cooccurrence, "CHUNK", 10_000)


def on_a_cluster(address: str, options: Options) -> OutputMatrix:
    with connected(address) as client:
        return embeddings.build("pmi", dataclasses.replace(TEXT, client=client), 8, options=options)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [10_000, 40_000])
@pytest.mark.parametrize(
    "options",
    [Options(), Options(lags="1,2,9", context="left"), Options(cross_lines=False, weights="linear", window=3)],
    ids=["window", "lags", "lines"],
)
def test_a_cluster_gives_the_bytes_of_one_process(
    address: str, options: Options, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence, "CHUNK", tokens)
    alone = embeddings.build("pmi", TEXT, 8, options=options)
    assert on_a_cluster(address, options).recipe == alone.recipe  # the hash of the vectors too


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pmi-signs", "cca"])
def test_other_methods_on_a_cluster_give_the_bytes_of_one_process(address: str, method: str) -> None:
    with connected(address) as client:
        matrix = embeddings.build(method, dataclasses.replace(TEXT, client=client), 8)
    assert matrix.recipe == embeddings.build(method, TEXT, 8).recipe


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_counts_changes_no_byte(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(lags="1,9")
    alone = embeddings.build("pmi", TEXT, 8, options=options)
    killed, count, last = tmp_path / "killed", cooccurrence._count_segment, TEXT.ids[-1]

    def deadly(ids: np.ndarray, own: int, **more: Any) -> Any:
        if ids[-1] == last and len(ids) == own and not killed.exists():  # the partition at the end of the text
            killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return count(ids, own, **more)

    monkeypatch.setattr(cooccurrence, "_count_segment", deadly)
    assert on_a_cluster(address, options).recipe == alone.recipe
    assert int(killed.read_text()) != os.getpid()


@pytest.mark.slow
def test_what_a_worker_lacks_is_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*arguments: Any, **more: Any) -> None:
        raise ModuleNotFoundError("No module named 'scipy'")

    monkeypatch.setattr(cooccurrence, "_count_segment", lacking)
    found = "found ModuleNotFoundError: No module named 'scipy'"
    with pytest.raises(InputError, match=rf"dask: the cluster cannot count \({found}\). Fix: install the same version"):
        on_a_cluster(address, Options())


@pytest.mark.slow
def test_a_partition_that_kills_every_worker_is_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fatal(*arguments: Any, **more: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def allow(failures: int, dask_scheduler: Any = None) -> None:
        dask_scheduler.allowed_failures = failures

    monkeypatch.setattr(cooccurrence, "_count_segment", fatal)
    with connected(address) as client:
        client.run_on_scheduler(allow, 0)  # workers by one partition, 3 in truth
        text = dataclasses.replace(TEXT, client=client)
        with pytest.raises(
            InputError, match=r"dask: workers died while they counted \(found tcp://.*\). Fix: give them"
        ):
            embeddings.build("pmi", text, 8)


def test_pairwise_sums_would_not_have_these_bytes() -> None:
    """Why the sums go in the order of the text."""
    parts = [
        cooccurrence.count(TEXT.ids[start : start + 10_000], 300).toarray() for start in range(0, len(TEXT.ids), 10_000)
    ]
    in_order = functools.reduce(np.add, parts)
    while len(parts) > 1:
        parts = [functools.reduce(np.add, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    assert (parts[0] != in_order).any()
    np.testing.assert_allclose(parts[0], in_order)


def test_an_address_without_a_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "SECONDS", 0.2)
    with pytest.raises(InputError, match=r"dask: no scheduler answers there \(found tcp://127.0.0.1:9\). Fix: start"):
        connected("tcp://127.0.0.1:9").__enter__()


@pytest.mark.slow
def test_a_scheduler_without_workers_is_an_error() -> None:
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(InputError, match=r"dask: the scheduler has no workers\. Fix: start some by `dask worker "),
        connected(empty.scheduler_address),
    ):
        pass


def test_without_dask_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"dask: Dask is not installed. Fix: pip install 'fixlm\[dask\]'"):
        connected("tcp://127.0.0.1:9").__enter__()
