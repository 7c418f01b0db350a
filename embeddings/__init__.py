"""Fixed output matrices: corpus statistics in, an `OutputMatrix` out.

numpy, scipy and gensim only; this package imports neither torch nor fixlm.
"""

from __future__ import annotations

from embeddings.builder import build, build_cached, from_keyed_vectors
from embeddings.errors import InputError
from embeddings.output_matrix import OutputMatrix
from embeddings.registry import get, names, register
from embeddings.statistics import CorpusStatistics

__all__ = [
    "CorpusStatistics",
    "InputError",
    "OutputMatrix",
    "build",
    "build_cached",
    "from_keyed_vectors",
    "get",
    "names",
    "register",
]
