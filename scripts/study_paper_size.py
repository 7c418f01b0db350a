"""The paper's size, 2×512, after two epochs of WikiText-2: tied, pmi and walsh, and walsh for as long as tied takes.

Rate, dropout and start of each are the best of the runs at 2×256.

python scripts/study_paper_size.py
"""

from __future__ import annotations

import sys
from typing import Any

import studies
from studies import START_SCALE, setting, start_at_pmi

from fixlm.compare import Setting, study

TIED_TIME = 4
"""Epochs of walsh with 4,096 families in the time of two of tied: see the ratio of their steps in
results/benchmark/steps-512-4096.json."""

CHOSEN: dict[str, dict[str, Any]] = {
    "tied": {"input_start_scale": START_SCALE / 2, "dropout": 0.2},
    "pmi": {"input_start_scale": START_SCALE, "dropout": 0.1, "normalize": False},
    "walsh": {"input_start_scale": START_SCALE / 2, "dropout": 0.1, "walsh_tied": True, "lr": 0.006},
}
"""Tied, pmi and walsh after two epochs: see the valid column of results/layers and results/starts."""


def row(layer: str, name: str = "", **flags: Any) -> Setting:
    """A layer whose input embedding is trained from PMI vectors; those of walsh add the row of the word's family."""
    return setting(layer, layer + name, **{**start_at_pmi(layer, discount=1), **CHOSEN[layer], **flags})


SETTINGS = [
    row("tied"),
    row("tied", ", dropout 0.1", dropout=0.1),
    row("pmi"),
    row("walsh", ", 8,192 families", walsh_families=8192),
    row("walsh", ", 4,096 families, in the time of tied", walsh_families=4096, epochs=TIED_TIME, dropout=0.2),
]

COMMON = {**studies.COMMON, "hidden-size": 512, "embed-size": 512, "epochs": 2, "validate-every": 745}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/paper-size", SETTINGS, common=COMMON, seeds=[1]))
