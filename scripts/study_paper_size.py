"""The paper's size, 2×512, after two epochs of WikiText-2: tied, pmi and walsh, and walsh for as long as tied takes.

python scripts/study_paper_size.py
"""

from __future__ import annotations

import sys

import studies
from studies import scaled, setting

from fixlm.compare import study

TIED_TIME = 5
"""Epochs of walsh in the time of two of tied, taken over from 256 units: measure the steps at 512 before it is run."""

SETTINGS = [
    setting("tied"),
    scaled("tied"),
    scaled("walsh"),
    scaled("pmi", ", x not normalised", normalize=False),
    scaled("walsh", ", in the time of tied", epochs=TIED_TIME),
]

COMMON = {**studies.COMMON, "hidden-size": 512, "embed-size": 512, "epochs": 2, "validate-every": 298}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/paper-size", SETTINGS, common=COMMON, seeds=[1]))
