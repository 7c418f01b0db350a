"""Which codeword each word has: all that a layer with codes made by rule has to know of a corpus."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings.files import StoredArray


@dataclass(frozen=True)
class Codebook(StoredArray):
    """The slots of a vocabulary.

    Args:
        slots: (V,) int32, c·M + i for the word in block c at position i.
        recipe: how they were found, as that of an `OutputMatrix`.
    """

    KIND, TENSOR, DTYPE, NDIM = "a codebook", "slots", "<i4", 1

    slots: np.ndarray
    recipe: dict[str, Any]
