"""How the next word of a text is drawn; by itself, since ``--help`` needs it and does not wait for torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from embeddings.options import Checked, Natural, NonNegative, option


@dataclass(frozen=True)
class Sampling(Checked):
    """How the next word is drawn."""

    temperature: NonNegative = option(
        1.0, "logits are divided by this before a word is drawn. At 0 the most probable word is taken"
    )
    top_k: Natural = option(0, "draw among the K most probable words (0: among all)")
    top_p: Annotated[float, Gt(0), Le(1)] = option(
        1.0, "draw among the most probable words that together have this probability"
    )
    seed: Natural = option(1, "seed of the draws")
