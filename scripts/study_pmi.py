"""What brings pmi nearer to tied after two epochs: parts that may be learned, and other matrices, one at a time.

python scripts/study_pmi.py
"""

from __future__ import annotations

import sys

import studies
from studies import setting

from fixlm.compare import study

SETTINGS = [
    setting("pmi", "pmi, learned map", output_map="linear"),
    setting("pmi", "pmi, perceptron of 1,024", output_map="mlp"),
    setting("pmi", "pmi, learned scale of each word", word_scales=True),
    setting("pmi", "pmi, N = 512", output_dim=512),
    setting("pmi", "pmi, x not normalised", normalize=False),
    setting("pmi", "pmi, not centred", pmi_centre=False),
    setting("pmi", "pmi of left contexts", pmi_context="left"),
]

COMMON = {**studies.COMMON, "epochs": 2, "validate-every": 298}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/pmi", SETTINGS, common=COMMON, seeds=[1]))
