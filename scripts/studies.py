"""What the studies share: the corpus, the sizes, and the learning rates that `study_learning_rates` chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fixlm.compare import Setting

COMMON: dict[str, Any] = {
    "data": "wikitext-2",
    "hidden-size": 256,
    "embed-size": 256,
    "epochs": 1,
    "precision": "bfloat16",
}
LEARNING_RATES: dict[str, dict[str, float]] = {
    "tied": {"lr": 0.012},
    "pmi": {"lr": 0.012},
    "walsh": {"lr": 0.012, "output-lr": 0.1},
}
"""The best so far on the valid split, that of pmi with an input embedding that starts at PMI vectors.

The learned softmax takes that of tied, every fixed matrix that of pmi.
"""


def setting(layer: str, name: str | None = None, seeds: Sequence[int] | None = None, **flags: Any) -> Setting:
    """A row of a study: an output layer at its learning rate, with further flags of ``fixlm.train``.

    Args:
        layer: ``--output-embed``.
        name: what the table calls it; the layer's own name if None.
        seeds: those of this row; the study's if None.
        flags: with underscores for dashes.
    """
    rates = LEARNING_RATES[{"learned": "tied", "tied": "tied", "walsh": "walsh"}.get(layer, "pmi")]
    given = {flag.replace("_", "-"): value for flag, value in flags.items()}
    return Setting(name or layer, {"output-embed": layer, **rates, **given}, seeds=seeds)
