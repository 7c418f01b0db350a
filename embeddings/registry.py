"""The methods that build an output matrix, by name.

A method is a module (or any object) with four names:

``SUMMARY``
    one line for ``--help``;
``NEEDS_CORPUS``
    True if it reads ``statistics.ids``, False if the vocabulary is enough;
``Options``
    a frozen dataclass of its own options, each field with ``metadata={"help": …}`` (and ``choices``);
``build(statistics, dim, seed, options, progress)``
    returns the vectors, a float array (V, N).

And where they apply:

``OWN_DIM = True``
    its options or a file decide on N;
``CODES = True``
    its rows are the codes of an output layer of their own and not vectors of words. It then has ``slots``, ``used`` and
    ``reads_text`` as well: see `embeddings.methods.walsh`;
``COUNTS_PAIRS = True``
    it counts which words stand together, which a Dask cluster can do (`embeddings.dask_cluster`);
``build_with_folds(statistics, dim, seed, options, bounds, progress)``
    its rows can be counted without a part of the text: see `embeddings.cross_fit`;
``DEFAULT_FOLDS``
    the number of folds of a run that is not told, where folds cost little beside the matrix itself;
``recipe(options)``
    what the vectors depend on, where it is more than the values of the options: the content of a file, say;
``VERSION``
    a number that is raised when the same options give other vectors than before, so that no cache is stale.

It is imported when it is first asked for, never before, so that ``--help`` stays fast.
Another package adds its own through an entry point in the group ``fixlm.output_matrices``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from embeddings.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np

    from embeddings.statistics import CorpusStatistics

ENTRY_POINT_GROUP = "fixlm.output_matrices"

Progress = Callable[[str, float, float], None]
"""Called as ``progress(what, done, total)`` while a matrix is built."""


def silent(what: str, done: float, total: float) -> None:
    """A `Progress` that tells nobody."""


class Method(Protocol):
    """What the module of a method holds."""

    SUMMARY: str
    NEEDS_CORPUS: bool
    Options: type[Any]

    def build(
        self, statistics: CorpusStatistics, dim: int | None, seed: int, options: Any, progress: Progress
    ) -> np.ndarray: ...


_methods: dict[str, Any] = {
    "random-orthogonal": "embeddings.methods.random_orthogonal",
    "hadamard": "embeddings.methods.hadamard",
    "sylvester": "embeddings.methods.sylvester",
    "word2vec": "embeddings.methods.word2vec",
    "pmi": "embeddings.methods.pmi",
    "pmi-signs": "embeddings.methods.pmi_signs",
    "cca": "embeddings.methods.cca",
    "walsh": "embeddings.methods.walsh",
    "pretrained": "embeddings.methods.pretrained",
}
_entry_points_read = False


def register(name: str, method: Method | str) -> None:
    """Adds a method under ``name``: its module, or the module's dotted name.

    Raises:
        ValueError: the name is taken.
    """
    if name in names():
        raise ValueError(f"output matrix '{name}' is registered already")
    _methods[name] = method


def names() -> list[str]:
    """All registered methods, the built-in ones first."""
    global _entry_points_read
    if not _entry_points_read:
        _entry_points_read = True
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            _methods.setdefault(entry.name, entry)
    return list(_methods)


def vector_names() -> list[str]:
    """The methods whose rows can serve as vectors of words, at the input too, and that need no file."""
    return [name for name in names() if name != "pretrained" and not getattr(get(name), "CODES", False)]


def can_cross_fit(name: str) -> bool:
    """Whether the method counts its vectors on the text, and can leave out a part of it."""
    return hasattr(get(name), "build_with_folds")


def default_folds(name: str) -> int:
    """The number of folds of the method where none is asked for; 0: none."""
    folds: int = getattr(get(name), "DEFAULT_FOLDS", 0)
    return folds


def get(name: str, where: str = "method") -> Method:
    """The method registered as ``name``; ``where`` names the flag in the error."""
    if name not in names():
        raise unknown_name(where, "output matrix", name, names())
    method = _methods[name]
    if isinstance(method, str):
        _methods[name] = method = importlib.import_module(method)
    elif hasattr(method, "load") and not hasattr(method, "build"):
        _methods[name] = method = method.load()
    return method
