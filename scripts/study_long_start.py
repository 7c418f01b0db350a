"""Learning rate and dropout for input embeddings that start at long PMI vectors: one epoch of WikiText-2, 2×256.

python scripts/study_long_start.py
"""

from __future__ import annotations

import sys

from studies import COMMON, LEFT, discounted, scaled, setting

from fixlm.compare import study

SETTINGS = [
    scaled(layer, f", lr {lr}, dropout {dropout}", lr=lr, dropout=dropout)
    for layer, grid in {
        "tied": ((0.006, 0.1), (0.012, 0.1)),
        "walsh": ((0.003, 0), (0.006, 0), (0.006, 0.1), (0.012, 0), (0.012, 0.1), (0.024, 0.1)),
    }.items()
    for lr, dropout in grid
] + [
    *(discounted("tied", f" × 4, lr 0.012, dropout {p}", input_start_scale=4, dropout=p) for p in (0, 0.1)),
    setting("tied", "tied, random start, lr 0.012, dropout 0.1", dropout=0.1),
    scaled(
        "pmi", ", left contexts of 30 words, x not normalised, lr 0.012, dropout 0.1", **LEFT, dropout=0.1
    ),
    scaled(
        "walsh", ", families of up to 26, lr 0.006, dropout 0.1", lr=0.006, dropout=0.1, walsh_family_size=26
    ),
    scaled("walsh", ", output × 8, lr 0.006, dropout 0.1", lr=0.006, dropout=0.1, output_start_scale=8),
    *(
        scaled(
            "walsh",
            f", discount {d}, lr 0.006, dropout 0",
            lr=0.006,
            dropout=0,
            pmi_discount=d,
            walsh_pmi_discount=d,
        )
        for d in (5, 20)
    ),
]

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/long-start", SETTINGS, common=COMMON, seeds=[1]))
