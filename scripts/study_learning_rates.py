"""Learning rates for tied, pmi and walsh, chosen on the valid split after one epoch of WikiText-2.

The matrix A of walsh meets every logit at once, so its rate is a part of the others'. Input embeddings that get no
gradient from the output, as that of tied does, may start at PMI vectors.

python scripts/study_learning_rates.py
"""

from __future__ import annotations

import sys

from studies import COMMON

from fixlm.compare import Setting, study


def rate(layer: str, lr: float, part: float = 1, start: str = "random") -> Setting:
    """A layer at a learning rate, its own matrices at a part of it."""
    flags = {"output-embed": layer, "lr": lr, "output-lr": part, "input-start": start}
    name, folder = f"{layer}, lr {lr}", f"{layer}-lr{lr}"
    if part != 1:
        name, folder = f"{name}, A at {part} of it", f"{folder}-a{part}"
    if start != "random":
        name, folder = f"{name}, input starts at {start}", f"{folder}-start"
    return Setting(name, flags, folder)


SETTINGS = [
    *(rate("tied", lr) for lr in (0.003, 0.006, 0.012, 0.024)),
    *(rate("pmi", lr) for lr in (0.003, 0.006, 0.012)),
    *(rate("walsh", lr) for lr in (0.003, 0.006, 0.012)),
    rate("walsh", 0.012, part=0.1),
    rate("tied", 0.012, start="pmi"),
    rate("pmi", 0.012, start="pmi"),
    rate("walsh", 0.012, part=0.1, start="pmi"),
]

if __name__ == "__main__":
    sys.exit(
        study(__doc__, "runs/learning-rates", SETTINGS, common=COMMON, seeds=[1], best_by="output-embed")
    )
