"""All output layers at one size, 2×256, after two epochs of WikiText-2; walsh also for as long as tied takes.

python scripts/study_layers.py
"""

from __future__ import annotations

import sys
from typing import Any

import studies
from studies import discounted, scaled, setting, started

from fixlm.compare import Setting, study

MATRICES = ("random-orthogonal", "hadamard", "sylvester", "word2vec", "pmi")
SEVERAL = (1, 2, 3)
TIED_TIME = 3
"""Epochs of walsh with 2,048 families that take less time than one of tied: see the ratio of their steps in
results/benchmark/steps-256.json."""

PERCEPTRON: dict[str, Any] = {"normalize": False, "output_dim": 512, "output_map": "mlp"}
"""What brings pmi furthest: see study_pmi.py."""


def codes(name: str, folder: str, **flags: Any) -> Setting:
    """Walsh with A itself trained, as before it had a row for each family."""
    row = setting("walsh", f"walsh, A itself, {name}", walsh_basis="codes", **flags)
    return Setting(row.name, row.flags, folder)


SETTINGS = [
    setting("learned"),
    setting("tied", seeds=SEVERAL),
    setting("random-orthogonal"),
    setting("hadamard", seeds=SEVERAL),
    setting("sylvester"),
    setting("word2vec"),
    setting("pmi"),
    setting("walsh"),
    started("tied"),
    started("walsh", ", 4,096 families", walsh_families=4096),
    discounted("tied"),
    discounted("pmi", ", x not normalised", normalize=False),
    discounted("pmi", ", x not normalised, perceptron, N = 512", **PERCEPTRON, validate_every=745),
    discounted("walsh"),
    discounted("walsh", ", in the time of one epoch of tied", epochs=TIED_TIME),
    scaled("tied", seeds=SEVERAL),
    scaled("pmi", ", x not normalised", SEVERAL, normalize=False),
    scaled("walsh", seeds=SEVERAL),
    scaled("walsh", ", 4,096 families", walsh_families=4096),
    scaled("walsh", ", in the time of one epoch of tied", epochs=TIED_TIME),
    scaled("walsh", ", in the time of tied", epochs=2 * TIED_TIME, dropout=0.3),
    *(setting(layer, f"{layer}, both ends fixed", input_embed="fixed") for layer in (*MATRICES, "walsh")),
    # As trained before the learning rates were whole.
    setting("hadamard", "hadamard, lr 0.006", lr=0.006),
    codes("lr 0.006", "walsh-lr-0.006-A-too", lr=0.006),
    codes("input starts at pmi", "walsh-input-starts-at-pmi", output_lr=0.1, input_start="pmi"),
    codes(
        "input starts at pmi, five epochs",
        "walsh-input-starts-at-pmi-in-the-time-of-tied",
        output_lr=0.1,
        input_start="pmi",
        epochs=5,
    ),
]

COMMON = {**studies.COMMON, "epochs": 2, "validate-every": 298}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/layers", SETTINGS, common=COMMON, seeds=[1]))
