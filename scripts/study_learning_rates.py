"""Learning rates for tied, pmi and walsh, chosen on the valid split after one epoch of WikiText-2.

First with random starts, then with what is trained at the input and the output started at PMI vectors.

python scripts/study_learning_rates.py
"""

from __future__ import annotations

import sys
from typing import Any

from studies import COMMON, STARTED, discount_of, start_at_pmi

from fixlm.compare import Setting, study


def rate(layer: str, lr: float, **flags: Any) -> Setting:
    """A layer at a learning rate."""
    return Setting(
        f"{layer}, lr {lr}",
        {"output-embed": layer, "lr": lr, **discount_of(layer), **flags},
        f"{layer}-lr{lr}",
    )


def started(layer: str, lr: float) -> Setting:
    """The same from PMI vectors."""
    name = f"{layer}, lr {lr}{STARTED}"
    return Setting(name, {"output-embed": layer, "lr": lr, **start_at_pmi(layer)}, f"{layer}-lr{lr}-start")


def codes(lr: float, part: float = 1, start: str = "random") -> Setting:
    """Walsh with A itself trained, which meets every logit at once, at a part of the rate."""
    name, folder = f"walsh, A itself, lr {lr}", f"walsh-lr{lr}"
    flags = {
        "output-embed": "walsh",
        "walsh-basis": "codes",
        "lr": lr,
        "output-lr": part,
        **discount_of("walsh"),
    }
    if part != 1:
        name, folder = f"{name}, A at {part} of it", f"{folder}-a{part}"
    if start != "random":
        name, folder = f"{name}, input starts at {start}", f"{folder}-start"
        flags["pmi-discount"] = 0
    return Setting(name, {**flags, "input-start": start}, folder)


SETTINGS = [
    *(rate("tied", lr) for lr in (0.003, 0.006, 0.012, 0.024)),
    *(rate("pmi", lr) for lr in (0.003, 0.006, 0.012)),
    *(codes(lr) for lr in (0.003, 0.006, 0.012)),
    codes(0.012, part=0.1),
    codes(0.012, part=0.1, start="pmi"),
    started("pmi", 0.012),
    *(started("walsh", lr) for lr in (0.006, 0.012, 0.024)),
]

if __name__ == "__main__":
    sys.exit(
        study(__doc__, "runs/learning-rates", SETTINGS, common=COMMON, seeds=[1], best_by="output-embed")
    )
