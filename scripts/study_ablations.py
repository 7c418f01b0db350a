"""What each part of a layer is worth: one part changed at a time, 2×256, one epoch of WikiText-2.

python scripts/study_ablations.py
"""

from __future__ import annotations

import sys

from studies import COMMON, setting

from fixlm.compare import study

SCALE_AND_BIAS = [
    setting("pmi"),
    *(setting("pmi", f"pmi, α = {alpha}", alpha=alpha) for alpha in (0.1, 1, 10)),
    setting("pmi", "pmi, b from zero", bias_start="zero"),
    setting("pmi", "pmi, x not normalised", normalize=False),
]
MATRICES = [
    setting("pmi", "pmi of left contexts", pmi_context="left"),
    *(setting("pmi", f"pmi, U·S^{weight}", pmi_eigenvalue_weight=weight) for weight in (0, 1)),
    setting("word2vec"),
    setting("word2vec", "word2vec, output vectors", word2vec_vectors="output"),
]
FAMILIES = [
    setting("walsh"),
    *(setting("walsh", f"walsh, {m:,} families", walsh_families=m) for m in (512, 1024, 4096, 8192)),
    setting("walsh", "walsh, families by frequency", walsh_positions="frequency"),
    setting("walsh", "walsh, families at random (hashed)", walsh_positions="random"),
    setting("walsh", "walsh, shared half alone", walsh_halves="shared"),
    setting("walsh", "walsh, own half alone", walsh_halves="own"),
    # As many numbers in front of Q as walsh has in A: 256·2,048 and 2,048·256.
    setting("pmi", "pmi, perceptron as large as A", output_map="mlp", output_map_size=2048),
]

SETTINGS = SCALE_AND_BIAS + MATRICES + FAMILIES

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/ablations", SETTINGS, common=COMMON, seeds=[1]))
