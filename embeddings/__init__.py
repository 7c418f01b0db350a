"""Fixed output matrices: corpus statistics in, an `OutputMatrix` out.

This package imports neither torch nor fixlm. The names below are imported when they are first used, so that
``import embeddings`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embeddings.builder import build, build_cached, from_keyed_vectors
    from embeddings.errors import InputError
    from embeddings.output_matrix import OutputMatrix
    from embeddings.registry import can_cross_fit, default_folds, get, names, register, vector_names
    from embeddings.statistics import CorpusStatistics

__all__ = ["CorpusStatistics", "InputError", "OutputMatrix", "build", "build_cached", "from_keyed_vectors", "get"]
__all__ += ["can_cross_fit", "default_folds", "names", "register", "vector_names"]

_HOME = {"CorpusStatistics": "statistics", "InputError": "errors", "OutputMatrix": "output_matrix"}
_HOME |= dict.fromkeys(("build", "build_cached", "from_keyed_vectors"), "builder")
_HOME |= dict.fromkeys(("can_cross_fit", "default_folds", "get", "names", "register", "vector_names"), "registry")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'embeddings' has no attribute '{name}'")
    return getattr(importlib.import_module(f"embeddings.{_HOME[name]}"), name)
