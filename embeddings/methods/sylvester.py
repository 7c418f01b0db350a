"""The authors' own Hadamard rule, whose rows repeat for V > N: so that a study can show what that does."""

import numpy as np

from embeddings.methods.hadamard import sylvester_rows
from embeddings.options import NoOptions as Options
from embeddings.registry import Progress
from embeddings.statistics import CorpusStatistics

SUMMARY = "the authors' Hadamard rule: truncated Sylvester matrix, whose rows repeat for V > N"
NEEDS_CORPUS = False


def build(statistics: CorpusStatistics, dim: int, seed: int, options: Options, progress: Progress) -> np.ndarray:
    """The first V rows and N columns of the Sylvester matrix of order 2^k ≥ max(V, N); the seed is not used.

    Row i depends on i modulo the next power of two from N only. At N = 512 there are 512 different rows, and
    at V = 33,278 some 65 words share each: the output layer can tell those apart by their biases only.

    Returns:
        (V, N) float32, entries ±1.
    """
    return sylvester_rows(len(statistics), dim).astype(np.float32)
