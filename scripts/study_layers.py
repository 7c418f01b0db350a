"""All output layers at one size, 2×256, after two epochs of WikiText-2; walsh also for as long as tied takes.

The input embedding starts at long PMI vectors, or at random, or is the output matrix itself; every layer has the
rate and the start that were chosen for it.

python scripts/study_layers.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import studies
from studies import LEFT, START_SCALE, setting, start_at_pmi

from fixlm.compare import Setting, study

MATRICES = ("random-orthogonal", "hadamard", "sylvester", "word2vec", "pmi")
SEVERAL = (1, 2, 3)
TIED_TIME = 3
"""Epochs of walsh with 2,048 families in less time than one of tied: see the ratio of their steps in
results/benchmark/steps-256.json."""

CHOSEN: dict[str, dict[str, Any]] = {
    "learned": {"output_start_scale": START_SCALE},
    "walsh": {"lr": 0.006, "walsh_tied": True},
}
"""For input embeddings that start at long PMI vectors: see study_start_scale.py and study_long_start.py."""


def row(layer: str, name: str = "", seeds: Sequence[int] | None = None, **flags: Any) -> Setting:
    """A layer, its input embedding trained from PMI vectors; those of walsh add the row of the word's family."""
    start = {**start_at_pmi(layer, discount=1), "input_start_scale": START_SCALE}
    return setting(layer, layer + name, seeds, **{**start, **CHOSEN.get(layer, {}), **flags})


def frozen(layer: str, **flags: Any) -> Setting:
    """A layer whose matrix is the input embedding too, that of PMI for walsh."""
    return setting(layer, f"{layer}, both ends fixed", input_embed="fixed", **flags)


SETTINGS = [
    row("learned"),
    row("tied", seeds=SEVERAL),
    setting("tied", "tied, random start"),
    *(row(layer, seeds=SEVERAL if layer == "hadamard" else None) for layer in MATRICES),
    row("word2vec", ", x not normalised", normalize=False),
    row("pmi", ", x not normalised", SEVERAL, normalize=False),
    row("pmi", ", left contexts of 30 words, x not normalised", **LEFT),
    row("walsh", seeds=SEVERAL),
    *(row("walsh", f", {families:,} families", walsh_families=families) for families in (4096, 8192)),
    row("walsh", ", in the time of one epoch of tied", epochs=TIED_TIME),
    *(row(layer, ", start × 4", input_start_scale=4) for layer in ("tied", "walsh")),
    row("walsh", ", 4,096 families, start × 4", walsh_families=4096, input_start_scale=4),
    row(
        "walsh",
        ", 8,192 families of up to 8, start × 4",
        walsh_families=8192,
        walsh_family_size=8,
        input_start_scale=4,
    ),
    *(row(layer, ", dropout 0.2", dropout=0.2) for layer in ("tied", "pmi", "walsh")),
    *(frozen(layer) for layer in MATRICES[:-1]),
    frozen("pmi", pmi_discount=1),
    frozen("walsh", lr=0.006, pmi_discount=1, walsh_pmi_discount=1),
]

COMMON = {**studies.COMMON, "epochs": 2, "dropout": 0.1, "validate-every": 745}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/layers", SETTINGS, common=COMMON, seeds=[1]))
