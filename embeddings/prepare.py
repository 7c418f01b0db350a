"""What an output layer needs of a text: a matrix, or a codebook where its rows are codes; kept in a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from embeddings import registry
from embeddings.builder import build_cached, cached, describe
from embeddings.codebook import Codebook, hash_slots
from embeddings.output_matrix import OutputMatrix
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

Prepared = OutputMatrix | Codebook


def prepare(
    method: str,
    statistics: CorpusStatistics,
    dim: int | None,
    seed: int,
    options: Any,
    progress: Progress | None = None,
    *,
    directory: Path,
) -> Prepared:
    """The codebook of a method of codes, the matrix of any other; from ``directory`` if it was built before.

    Args:
        dim: N of a matrix; codes have a length of their own.

    Raises:
        InputError: as `embeddings.build`.
    """
    if kind_of(method) is Codebook:
        return build_codebook(method, statistics, seed, options, progress, directory=directory)
    return build_cached(method, statistics, dim, seed, options, progress, directory=directory)


def kind_of(method: str) -> type[Prepared]:
    """The class of what `prepare` gives, which also reads it from a file."""
    return Codebook if getattr(registry.get(method), "CODES", False) else OutputMatrix


def build_codebook(
    method: str,
    statistics: CorpusStatistics,
    seed: int,
    options: Any,
    progress: Progress | None = None,
    *,
    directory: Path,
) -> Codebook:
    """The slot of each word, as a method of codes deals them out.

    Raises:
        InputError: as the method's ``slots``.
    """
    module: Any = registry.get(method)
    recipe = describe(method, statistics, None, seed, module.used(options))
    if module.reads_text(options):
        recipe["corpus_sha256"] = statistics.ids_hash()

    def make() -> Codebook:
        silent: Progress = lambda what, done, total: None  # noqa: E731
        slots = module.slots(statistics, seed, options, progress or silent).astype(np.int32)
        return Codebook(slots, recipe | {"sha256": hash_slots(slots)})

    return cached(Codebook, make, f"{method}-slots", recipe, directory)
