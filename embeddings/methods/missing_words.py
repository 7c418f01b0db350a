"""The one rule for words that a method has no vector for."""

import numpy as np

NOISE = 0.01
"""Standard deviation of the noise, as a part of that of all other vectors' entries."""


def fill_missing(vectors: np.ndarray, missing: np.ndarray, rng: np.random.Generator) -> None:
    """Gives each missing word the mean of the others' vectors plus seeded Gaussian noise, in place.

    The noise has 1 % of the standard deviation of all entries of the others, so that no two of the rows
    are equal. Where the others are centred their mean is about zero and the noise alone gives the
    direction: scaled to norm 1, such a word has a random vector, far from every other one.

    Args:
        vectors: (V, N) floats; rows of missing words may hold anything, and are overwritten.
        missing: (V,) booleans, True where a word has no vector.
        rng: draws the noise, in order of ids, and nothing if no word is missing.

    Raises:
        ValueError: every word is missing.
    """
    missing = np.asarray(missing, dtype=bool)
    if not missing.any():
        return
    if missing.all():
        raise ValueError("every word is missing: there is no vector to take the mean of")
    others = vectors[~missing]
    mean = others.mean(axis=0, dtype=np.float64)
    # Others that are almost alike have hardly a spread: a part of their size, or 1, keeps the rows distinct.
    scale = max(float(others.std(dtype=np.float64)), 1e-3 * float(np.abs(mean).max())) or 1.0
    noise = rng.standard_normal((int(missing.sum()), vectors.shape[1]))
    vectors[missing] = mean + NOISE * scale * noise
