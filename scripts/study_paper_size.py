"""The paper's size, 2×512, after two epochs of WikiText-2: tied, pmi and walsh, and walsh for as long as tied takes.

python scripts/study_paper_size.py
"""

from __future__ import annotations

import sys

import studies
from studies import scaled, setting

from fixlm.compare import study

TIED_TIME = 5
"""Epochs of walsh in the time of two of tied: see the ratio of their steps in results/benchmark/steps-512.json."""

SETTINGS = [
    setting("tied"),
    scaled("tied"),
    scaled("walsh", lr=0.006),
    scaled("pmi", ", x not normalised", normalize=False),
    scaled("walsh", ", in the time of tied", lr=0.006, epochs=TIED_TIME),
]

COMMON = {
    **studies.COMMON,
    "hidden-size": 512,
    "embed-size": 512,
    "epochs": 2,
    "dropout": 0.1,
    "validate-every": 745,
}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/paper-size", SETTINGS, common=COMMON, seeds=[1]))
