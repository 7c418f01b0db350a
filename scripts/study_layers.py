"""All output layers at one size, 2×256, after two epochs of WikiText-2; walsh also for as long as tied takes.

python scripts/study_layers.py
"""

from __future__ import annotations

import sys

import studies
from studies import setting

from fixlm.compare import study

MATRICES = ("random-orthogonal", "hadamard", "sylvester", "word2vec", "pmi")
SEVERAL = (1, 2, 3)
TIED_TIME = 5
"""Epochs of walsh that take less time than two of tied: see the ratio of their steps in
results/benchmark/steps-256.json."""

START = ", input starts at pmi"

SETTINGS = [
    setting("learned"),
    setting("tied", seeds=SEVERAL),
    setting("random-orthogonal"),
    setting("hadamard", seeds=SEVERAL),
    setting("sylvester"),
    setting("word2vec"),
    setting("pmi", seeds=SEVERAL),
    setting("walsh", seeds=SEVERAL),
    # As trained before the grid was whole.
    setting("hadamard", "hadamard, lr 0.006", lr=0.006),
    setting("walsh", "walsh, lr 0.006, A too", lr=0.006, output_lr=1),
    *(setting(layer, layer + START, input_start="pmi") for layer in ("tied", "pmi", "walsh")),
    *(setting(layer, f"{layer}, both ends fixed", input_embed="fixed") for layer in (*MATRICES, "walsh")),
    setting("walsh", "walsh, in the time of tied", epochs=TIED_TIME),
    setting("walsh", f"walsh{START}, in the time of tied", epochs=TIED_TIME, input_start="pmi"),
]

COMMON = {**studies.COMMON, "epochs": 2, "validate-every": 298}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/layers", SETTINGS, common=COMMON, seeds=[1]))
