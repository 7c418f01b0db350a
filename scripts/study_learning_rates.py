"""Learning rates for tied, pmi and walsh, chosen on the valid split after one epoch of WikiText-2.

The matrix A of walsh meets every logit at once, so its rate is a part of the others'.

python scripts/study_learning_rates.py
"""

from __future__ import annotations

import sys

from studies import COMMON

from fixlm.compare import Setting, study

GRID = [
    *(("tied", rate, 1) for rate in (0.003, 0.006, 0.012, 0.024)),
    *(("pmi", rate, 1) for rate in (0.003, 0.006, 0.012)),
    *(("walsh", rate, 1) for rate in (0.003, 0.006, 0.012)),
    ("walsh", 0.012, 0.1),
]
SETTINGS = [
    Setting(
        f"{layer}, lr {rate}" + (f", A at {part} of it" if part != 1 else ""),
        {"output-embed": layer, "lr": rate, "output-lr": part},
        folder=f"{layer}-lr{rate}" + (f"-a{part}" if part != 1 else ""),
    )
    for layer, rate, part in GRID
]

if __name__ == "__main__":
    sys.exit(
        study(__doc__, "runs/learning-rates", SETTINGS, common=COMMON, seeds=[1], best_by="output-embed")
    )
