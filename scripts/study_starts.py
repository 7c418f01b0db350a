"""Two epochs of WikiText-2, 2×256, from several starts and at dropout 0.2, trained before study_layers.py was settled.

python scripts/study_starts.py
"""

from __future__ import annotations

import sys
from typing import Any

import studies
from studies import discounted, scaled, setting, started

from fixlm.compare import Setting, study


def codes(name: str, folder: str, **flags: Any) -> Setting:
    """Walsh with A itself trained, as before it had a row for each family."""
    row = setting("walsh", f"walsh, A itself, {name}", walsh_basis="codes", **flags)
    return Setting(row.name, row.flags, folder)


SETTINGS = [
    setting("tied"),
    setting("hadamard"),
    setting("sylvester"),
    started("tied"),
    started("walsh", ", 4,096 families", walsh_families=4096),
    discounted("walsh", ", in the time of one epoch of tied", epochs=3),
    discounted("tied", " × 4", input_start_scale=4),
    scaled("pmi", ", x not normalised", normalize=False),
    scaled("walsh"),
    scaled("walsh", ", 4,096 families", walsh_families=4096),
    setting("hadamard", "hadamard, lr 0.006", lr=0.006),
    codes("lr 0.006", "walsh-lr-0.006-A-too", lr=0.006),
    codes(
        "input starts at pmi", "walsh-input-starts-at-pmi", output_lr=0.1, input_start="pmi", pmi_discount=0
    ),
    codes(
        "input starts at pmi, five epochs",
        "walsh-input-starts-at-pmi-in-the-time-of-tied",
        output_lr=0.1,
        input_start="pmi",
        pmi_discount=0,
        epochs=5,
    ),
]

COMMON = {**studies.COMMON, "epochs": 2, "validate-every": 298}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/starts", SETTINGS, common=COMMON, seeds=[1]))
