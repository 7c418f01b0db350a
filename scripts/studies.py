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
    "dropout": 0.2,
}
LEARNING_RATES = {"tied": 0.012, "pmi": 0.012, "walsh": 0.012}
"""The best on the valid split. The learned softmax takes that of tied, every fixed matrix that of pmi."""

STARTED = ", starts at pmi"
DISCOUNTED = ", starts at discounted pmi"
START_SCALE = 8
"""Of an input embedding that starts at discounted PMI vectors: see study_start_scale.py."""

LEFT: dict[str, Any] = {"normalize": False, "pmi_context": "left", "pmi_window": 30}
"""Features as they are and wide contexts at the left only bring pmi further at no cost: see study_pmi_parts.py."""


def start_at_pmi(layer: str, discount: float = 0) -> dict[str, Any]:
    """Flags: what is trained at the input and at the output starts at PMI vectors.

    Args:
        layer: ``--output-embed``.
        discount: of all PMI vectors, those of the output matrix and of the families of walsh too.
    """
    ends = ("input-start", "output-start") if layer in ("learned", "walsh") else ("input-start",)
    return {**dict.fromkeys(ends, "pmi"), "pmi-discount": discount, **discount_of(layer, discount)}


def discount_of(layer: str, discount: float = 0) -> dict[str, float]:
    """The flag that says how much the PMI vectors of the output layer itself are discounted, if it has any."""
    prefix = {"pmi": "pmi", "walsh": "walsh-pmi"}.get(layer)
    return {f"{prefix}-discount": discount} if prefix else {}


def setting(layer: str, name: str | None = None, seeds: Sequence[int] | None = None, **flags: Any) -> Setting:
    """A row of a study: an output layer at its learning rate, with further flags of ``fixlm.train``.

    Args:
        layer: ``--output-embed``.
        name: what the table calls it; the layer's own name if None.
        seeds: those of this row; the study's if None.
        flags: with underscores for dashes.
    """
    rate = LEARNING_RATES[{"learned": "tied", "tied": "tied", "walsh": "walsh"}.get(layer, "pmi")]
    given = discount_of(layer) | {flag.replace("_", "-"): value for flag, value in flags.items()}
    return Setting(name or layer, {"output-embed": layer, "lr": rate, **given}, seeds=seeds)


def started(layer: str, name: str = "", seeds: Sequence[int] | None = None, **flags: Any) -> Setting:
    """`setting` from PMI vectors; ``name`` follows that of the layer."""
    return setting(layer, f"{layer}{STARTED}{name}", seeds, **start_at_pmi(layer), **flags)


def discounted(layer: str, name: str = "", seeds: Sequence[int] | None = None, **flags: Any) -> Setting:
    """The same from discounted PMI vectors."""
    return setting(layer, f"{layer}{DISCOUNTED}{name}", seeds, **start_at_pmi(layer, 1), **flags)


def scaled(layer: str, name: str = "", seeds: Sequence[int] | None = None, **flags: Any) -> Setting:
    """The same, longer vectors at the input; there walsh reads the rows of its families too."""
    if layer == "walsh":
        name, flags = f", reads its families{name}", {"walsh_tied": True, **flags}
    return discounted(layer, f" × {START_SCALE}{name}", seeds, input_start_scale=START_SCALE, **flags)
