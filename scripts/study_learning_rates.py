"""One grid of learning rates for tied, pmi and walsh, chosen on the valid split after one epoch of WikiText-2.

python scripts/study_learning_rates.py
"""

from __future__ import annotations

import sys

from studies import COMMON

from fixlm.compare import Setting, study

RATES = (0.003, 0.006, 0.012)
SETTINGS = [
    Setting(f"{layer}, lr {rate}", {"output-embed": layer, "lr": rate}, folder=f"{layer}-lr{rate}")
    for layer in ("tied", "pmi", "walsh")
    for rate in RATES
]

if __name__ == "__main__":
    sys.exit(
        study(__doc__, "runs/learning-rates", SETTINGS, common=COMMON, seeds=[1], best_by="output-embed")
    )
