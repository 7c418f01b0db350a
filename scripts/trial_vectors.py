"""Ways to make word vectors, each tried as a fixed output matrix for one epoch.

  python scripts/trial_vectors.py --json trials.json --data wikitext-2 [NAME …]    all trials, or those of these names
  python scripts/trial_vectors.py --list                                           the trials

Some are options of `cca`. The others are written here and not in the library: they did not help, or they need another
text. Every trial trains 2×256 with all words but one in four clusters. The input embedding starts at the same vectors
× 8, and both ends have eight folds unless a trial says otherwise. The file gets one row for each trial, with its
flags and its perplexity on the valid split, by which vectors are chosen.

The trials with GloVe vectors need the file glove-100.txt here, in word2vec's text format: docs/study_runs.md says where
they come from. Without it they are passed over.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt, Lt
from places import require_places

from embeddings import registry
from embeddings.methods import cca, factorised_counts, pretrained
from embeddings.methods.pmi import positive_pmi
from embeddings.options import Checked, NonNegative, option
from embeddings.output_matrix import unit_rows
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FRAME = {
    "hidden-size": 256,
    "embed-size": 256,
    "lr": 0.012,
    "dropout": 0,
    "precision": "bfloat16",
    "normalize": False,
    "input-start-scale": 8,
    "cross-fit": 8,
    "learned-words": 1,
    "tail-clusters": 4,
}
"""The flags of every trial; `TRIALS` has what is added."""


LEFT = {"context": "left", "lags": "1,2,3,4,100"}
"""What the contexts of a method are unless a trial says otherwise."""


@dataclass(frozen=True)
class PowerOptions(cca.Options):
    """`cca` with another exponent than ½."""

    METHOD: ClassVar[str] = "powers"

    exponent: Annotated[float, Gt(0), Lt(2)] = option(0.5, "of a count")

    def cells(self, counts: csr_array) -> csr_array:
        from scipy.sparse import csr_array

        rows, columns = counts.sum(axis=1), counts.sum(axis=0)
        scale = np.repeat(rows, np.diff(counts.indptr)) * columns[counts.indices]
        cells = (counts.data / np.sqrt(scale)) ** self.exponent
        return csr_array((cells, counts.indices, counts.indptr), shape=counts.shape)


@dataclass(frozen=True)
class TanhOptions(cca.Options):
    """2·tanh(PMI/2) of all cells (arXiv 2502.09863); 2 is added, so that cells without a count are 0."""

    METHOD: ClassVar[str] = "tanh"

    def cells(self, counts: csr_array) -> csr_array:
        from scipy.sparse import csr_array

        rows, columns = counts.sum(axis=1), counts.sum(axis=0)
        ratio = counts.data * counts.sum() / (np.repeat(rows, np.diff(counts.indptr)) * columns[counts.indices])
        return csr_array((4 * ratio / (ratio + 1), counts.indices, counts.indptr), shape=counts.shape)


@dataclass(frozen=True)
class OtherOptions(cca.Options):
    """`cca` under another name, so that the two ends can have other contexts."""

    METHOD: ClassVar[str] = "other"


@dataclass(frozen=True)
class AfterOptions(cca.Options):
    """`cca` with the contexts behind a word alone."""

    METHOD: ClassVar[str] = "after"

    def cells(self, counts: csr_array) -> csr_array:
        from scipy.sparse import csr_array

        return cca.root_correlation(csr_array(counts.T), smoothing=self.smoothing)


@dataclass(frozen=True)
class MixedOptions(cca.Options):
    """The cells of `cca` and of `pmi` side by side, each block divided by its Frobenius norm."""

    METHOD: ClassVar[str] = "mixed"

    def cells(self, counts: csr_array) -> csr_array:
        from scipy.sparse import csr_array, hstack

        both = [cca.root_correlation(counts), positive_pmi(counts, discount=1)]
        return csr_array(hstack([each / np.sqrt((each.data**2).sum()) for each in both], format="csr"))


DECAYS = (0.0, 0.5, 0.8, 0.95, 0.99)
CHUNK = 1 << 16


@dataclass(frozen=True)
class MeanOptions(Checked):
    """Class means of the contexts of a word, in the space of linear discriminant analysis."""

    METHOD: ClassVar[str] = "means"

    base_dim: int = option(128, "length of the vectors that a context is made of")
    shrink: NonNegative = option(5.0, "k of n/(n + k), by which the mean of a word with n occurrences is multiplied")


def contexts(ids: np.ndarray, base: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Words, and the moving averages of the vectors before them: (n,) and (n, 5·D), a chunk of the text at a time."""
    from scipy.signal import lfilter

    state = [np.zeros((1, base.shape[1]), np.float32) for _ in DECAYS]
    for start in range(0, len(ids) - 1, CHUNK):
        words = ids[start : start + CHUNK + 1]
        parts = []
        for number, decay in enumerate(DECAYS):
            taps = (np.array([1 - decay], np.float32), np.array([1, -decay], np.float32))
            averages, state[number] = lfilter(*taps, base[words[:-1]], axis=0, zi=state[number])
            parts.append(averages)
        yield words[1:], np.hstack(parts)


def class_means(
    statistics: CorpusStatistics, dim: int, seed: int, options: MeanOptions, bounds: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Rows Lᵀ (μ_w − μ), shrunk, with L the leading axes of linear discriminant analysis; those of folds alike."""
    from scipy.linalg import eigh
    from scipy.sparse import csr_array

    ids = statistics.text(options.METHOD)
    base = unit_rows(
        cca.build(statistics, options.base_dim, seed, cca.Options(context="left", lags=LEFT["lags"]), progress)
    ).astype(np.float32)
    size, width, folds = len(statistics), base.shape[1] * len(DECAYS), len(bounds) - 1
    sums, counts = np.zeros((folds, size, width), np.float32), np.zeros((folds, size))
    moments, position = np.zeros((width, width)), 1
    for words, averages in contexts(ids, base):
        moments += averages.T @ averages
        fold_of = np.searchsorted(bounds, np.arange(position, position + len(words)), "right") - 1
        for fold in np.unique(fold_of):
            own = fold_of == fold
            entries = (np.ones(own.sum(), np.float32), (words[own], np.flatnonzero(own)))
            sums[fold] += csr_array(entries, (size, len(words))) @ averages
            counts[fold] += np.bincount(words[own], minlength=size)
        position += len(words)
        progress("class means", position, len(ids))
    n, total = counts.sum(axis=0), sums.sum(axis=0)
    mean = total.sum(axis=0) / n.sum()

    def means(total: np.ndarray, n: np.ndarray) -> np.ndarray:
        return (total - n[:, None] * mean) / np.maximum(n + options.shrink, 1)[:, None]

    whole = means(total, n)
    within = moments / n.sum() - np.outer(mean, mean)
    between = (whole * n[:, None]).T @ whole / n.sum()
    within += 1e-4 * np.trace(within) / width * np.eye(width)
    _, axes = eigh(between, within, subset_by_index=[width - dim, width - 1])
    axes = axes[:, ::-1].astype(np.float32)
    return whole @ axes, (means(total - sums[fold], n - counts[fold]) @ axes for fold in range(folds))


def whole_means(
    statistics: CorpusStatistics, dim: int, seed: int, options: MeanOptions, progress: Progress
) -> np.ndarray:
    """`class_means` of the whole text."""
    bounds = np.array([0, len(statistics.text(options.METHOD))])
    return class_means(statistics, dim, seed, options, bounds, progress)[0]


@dataclass(frozen=True)
class BesideOptions(cca.Options):
    """`cca` of N − N' numbers, and beside it vectors of other text, of N' numbers."""

    METHOD: ClassVar[str] = "beside"

    file: str = option("", "the vectors of other text")

    def vectors(self, statistics: CorpusStatistics, seed: int, progress: Progress) -> np.ndarray:
        """(V, N') those of the file, centred, of mean norm 1. A word that the file lacks has nearly zeros."""
        settings = pretrained.Options(file=self.file, lowercase_fallback=True)
        found = pretrained.build(statistics, None, seed, settings, progress)
        found -= found.mean(axis=0)
        return found / np.linalg.norm(found, axis=1).mean()


def beside(statistics: CorpusStatistics, dim: int, seed: int, options: BesideOptions, progress: Progress) -> np.ndarray:
    """(V, N) the two kinds of rows side by side."""
    others = options.vectors(statistics, seed, progress)
    own = cca.build(statistics, dim - others.shape[1], seed, options, progress)
    return np.hstack([unit_rows(own), others])


def beside_with_folds(
    statistics: CorpusStatistics, dim: int, seed: int, options: BesideOptions, bounds: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The rows of `beside`, and those of folds. A word that is not known outside a fold has a row of zeros there."""
    others = options.vectors(statistics, seed, progress)
    own, parts = cca.build_with_folds(statistics, dim - others.shape[1], seed, options, bounds, progress)
    return np.hstack([unit_rows(own), others]), (
        np.hstack([part, others * part.any(axis=1, keepdims=True)]) for part in map(unit_rows, parts)
    )


def _method(kind: Any, build: Any = factorised_counts.build, folds: Any = factorised_counts.build_with_folds) -> Any:
    return SimpleNamespace(
        SUMMARY=kind.__doc__, NEEDS_CORPUS=True, Options=kind, DEFAULT_FOLDS=8, build=build, build_with_folds=folds
    )


METHODS = {
    "powers": _method(PowerOptions),
    "tanh": _method(TanhOptions),
    "other": _method(OtherOptions),
    "after": _method(AfterOptions),
    "mixed": _method(MixedOptions),
    "means": _method(MeanOptions, whole_means, class_means),
    "beside": _method(BesideOptions, beside, beside_with_folds),
}

GLOVE = "glove-100.txt"
FALLBACK = {"pretrained-lowercase-fallback": True}

TRIALS: dict[str, tuple[str, dict[str, Any]]] = {
    "cca, contexts before a word": ("cca", {}),
    "exponent 0.35 in place of 0.5": ("powers", {"powers-exponent": 0.35}),
    "exponent 0.65 in place of 0.5": ("powers", {"powers-exponent": 0.65}),
    "2·tanh(PMI/2) of all cells": ("tanh", {"tanh-eigenvalue-weight": 0.5}),
    "pmi": ("pmi", {}),
    "cells of cca and of pmi side by side": ("mixed", {}),
    "class means of contexts": ("means", {}),
    "contexts behind a word too, counted apart": ("cca", {"cca-context": "sides"}),
    "the same, at the input alone": ("cca", {"input-start": "other", "other-context": "sides"}),
    "the same, at the output alone": ("cca", {"cca-context": "sides", "input-start": "other"}),
    "contexts behind a word alone at the input": ("cca", {"input-start": "after"}),
    "contexts behind a word too, at 1, 2, 3 and within 30": ("cca", {"cca-context": "sides", "cca-lags": "1,2,3,30"}),
    "contexts behind a word too, at 1, 2 and within 30": ("cca", {"cca-context": "sides", "cca-lags": "1,2,30"}),
    "contexts behind a word too, at 1, 2 and within 100": ("cca", {"cca-context": "sides", "cca-lags": "1,2,100"}),
    "contexts behind a word too, at 1, 2 and within 10": ("cca", {"cca-context": "sides", "cca-lags": "1,2,10"}),
    "contexts behind a word too, at 1 and within 30": ("cca", {"cca-context": "sides", "cca-lags": "1,30"}),
    "pmi, contexts behind a word too, at 1, 2 and within 30": ("pmi", {"pmi-context": "sides", "pmi-lags": "1,2,30"}),
    "contexts on both sides, counted together": ("cca", {"cca-context": "symmetric"}),
    "contexts within 300 in place of 100": ("cca", {"cca-lags": "1,2,3,4,300"}),
    "contexts at 5 and 6 too": ("cca", {"cca-lags": "1,2,3,4,5,6,100"}),
    "counts of contexts to the power of 0.75": ("cca", {"cca-smoothing": 0.75}),
    "p = 0.5 in place of 1": ("cca", {"cca-eigenvalue-weight": 0.5}),
    "p = 0.75 in place of 1": ("cca", {"cca-eigenvalue-weight": 0.75}),
    "p = 1.25 in place of 1": ("cca", {"cca-eigenvalue-weight": 1.25}),
    "16 folds": ("cca", {"cross-fit": 16}),
    "rows of 512 numbers, behind the map": ("cca", {"output-dim": 512}),
    "rows of 100 numbers, behind the map": ("cca", {"output-dim": 100}),
    "GloVe vectors of 100 numbers, input from cca": (GLOVE, {"input-start": "cca"} | FALLBACK),
    "cca of 156 numbers beside GloVe vectors of 100": ("beside", {"beside-file": GLOVE}),
    "the same, contexts behind a word too, at 1, 2 and within 30": (
        "beside",
        {"beside-file": GLOVE, "beside-context": "sides", "beside-lags": "1,2,30"},
    ),
}
"""What is tried: the method, and flags beside `FRAME`."""


def flags(name: str) -> list[str]:
    """The flags of a trial."""
    method, own = TRIALS[name]
    ends = {"output-embed": method, "input-start": own.get("input-start", method)}
    counted = sorted({*ends.values()} - {GLOVE, "means"})
    contexts = {f"{each}-{key}": value for each in counted for key, value in LEFT.items()}
    values = FRAME | ends | contexts | own
    switches = {True: "--{}", False: "--no-{}"}
    return [
        (switches[value] if isinstance(value, bool) else "--{}={}").format(key, value) for key, value in values.items()
    ]


def train(name: str, more: list[str]) -> dict[str, Any]:
    """Trains a trial and gives its row."""
    from fixlm.cli import main

    own = flags(name)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        if main(["train", *own, "--run", str(run), *more]):
            sys.exit(f"{name}: the run failed")
        result = json.loads((run / "result.json").read_text())
    kept = ("corpus", "seconds", "versions", "threads")
    return {"name": name, "flags": own, "valid": result["valid"]} | {key: result[key] for key in kept}


def main() -> None:
    """Reads the command line; other flags go to ``python -m fixlm.train``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="trials, all by default")
    parser.add_argument("--json", help="the file of rows; rows of other trials in it are kept")
    parser.add_argument("--list", action="store_true", help="print the names of the trials")
    arguments, more = parser.parse_known_args()
    if arguments.list:
        print("\n".join(TRIALS))
        return
    if unknown := [name for name in arguments.names if name not in TRIALS]:
        parser.error(f"no such trial: {', '.join(unknown)}. --list has their names.")
    require_places(json=arguments.json)
    for name, method in METHODS.items():
        registry.register(name, method)
    file = Path(arguments.json) if arguments.json else None
    rows = {row["name"]: row for row in (json.loads(file.read_text()) if file and file.is_file() else [])}
    for name in arguments.names or TRIALS:
        if "GloVe" in name and not Path(GLOVE).is_file():
            print(f"{name}: passed over, there is no {GLOVE} here")
            continue
        rows[name] = train(name, more)
        print(f"{name}: {rows[name]['valid']['perplexity']:.2f}")
        if file:
            ordered = [rows[each] for each in TRIALS if each in rows]
            lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in ordered)
            file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
