"""What brings pmi nearer to tied after one epoch of WikiText-2: one part added after the other, from PMI vectors.

python scripts/study_pmi.py
"""

from __future__ import annotations

import sys
from typing import Any

from studies import COMMON, started

from fixlm.compare import study

FREE: dict[str, Any] = {"normalize": False}
PERCEPTRON: dict[str, Any] = {"output_dim": 512, "output_map": "mlp"}

SETTINGS = [
    started("pmi"),
    started("pmi", ", x not normalised", **FREE),
    *(started("pmi", f", x not normalised, discount {d}", **FREE, pmi_discount=d) for d in (1, 5)),
    started("pmi", ", x not normalised, perceptron, N = 512", **FREE, **PERCEPTRON),
    started(
        "pmi", ", x not normalised, discount 1, perceptron, N = 512", **FREE, **PERCEPTRON, pmi_discount=1
    ),
]

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/pmi", SETTINGS, common=COMMON, seeds=[1]))
