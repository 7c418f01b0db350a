"""What each part of a layer is worth: one part changed at a time, 2×256, one epoch of WikiText-2.

Every row starts what it trains at PMI vectors, unless it says otherwise; walsh has 2,048 families.

python scripts/study_ablations.py
"""

from __future__ import annotations

import sys
from typing import Any

from studies import COMMON, setting, start_at_pmi

from fixlm.compare import Setting, study


def row(layer: str, change: str = "", **flags: Any) -> Setting:
    """A layer from PMI vectors, with a change that its name tells."""
    return setting(layer, layer + change, **start_at_pmi(layer), **flags)


SCALE_AND_BIAS = [
    row("pmi"),
    *(row("pmi", f", α = {alpha}", alpha=alpha) for alpha in (0.1, 1, 10)),
    row("pmi", ", b from zero", bias_start="zero"),
    row("pmi", ", x not normalised", normalize=False),
]
MATRICES = [
    row("pmi", " of left contexts", pmi_context="left"),
    *(row("pmi", f", U·S^{weight}", pmi_eigenvalue_weight=weight) for weight in (0, 1)),
    row("word2vec"),
    row("word2vec", ", output vectors", word2vec_vectors="output"),
]
FAMILIES = [
    row("walsh"),
    *(row("walsh", f", {m:,} families", walsh_families=m) for m in (512, 1024, 4096, 8192)),
    row("walsh", ", discount 1", pmi_discount=1, walsh_pmi_discount=1),
    row("walsh", ", families by frequency", walsh_positions="frequency"),
    row("walsh", ", families at random (hashed)", walsh_positions="random"),
    row("walsh", ", shared half alone", walsh_halves="shared"),
    row("walsh", ", own half alone", walsh_halves="own"),
    # As many numbers in front of Q as walsh has in A: 256·2,048 and 2,048·256.
    row("pmi", ", perceptron as large as A", output_map="mlp", output_map_size=2048),
]

SETTINGS = SCALE_AND_BIAS + MATRICES + FAMILIES

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/ablations", SETTINGS, common=COMMON, seeds=[1]))
