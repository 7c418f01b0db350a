"""Which codeword each word has: all that a layer with codes made by rule has to know of a corpus."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings.output_matrix import load_array, save_array


def hash_slots(slots: np.ndarray) -> str:
    """SHA-256 of the slots as little-endian 32-bit numbers."""
    return hashlib.sha256(np.ascontiguousarray(slots, dtype="<i4").data).hexdigest()


@dataclass(frozen=True)
class Codebook:
    """The slots of a vocabulary.

    Args:
        slots: (V,) int32, c·M + i for the word in block c at position i.
        recipe: how they were found, as that of an `OutputMatrix`.
    """

    slots: np.ndarray
    recipe: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The hash of the slots, recorded when they were found."""
        return self.recipe["sha256"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes safetensors: the tensor ``slots`` and the metadata key ``recipe``."""
        save_array(path, "slots", self.slots, self.recipe)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Codebook:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is no codebook, or its slots do not match the hash in its recipe.
        """
        return cls(*load_array(path, "slots", "codebook", hash_slots, dtype="I32", ndim=1))
