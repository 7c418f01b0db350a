"""What brings pmi nearer to tied from a long start, one part changed at a time: 250 steps of WikiText-2, 2×256.

python scripts/study_pmi_parts.py
"""

from __future__ import annotations

import sys
from typing import Any

import studies
from studies import LEFT, START_SCALE, setting, start_at_pmi

from fixlm.compare import Setting, study


def row(layer: str, name: str = "", **flags: Any) -> Setting:
    """A layer whose input embedding is trained from long PMI vectors."""
    start = {**start_at_pmi(layer, discount=1), "input_start_scale": START_SCALE}
    return setting(layer, layer + name, **start, **flags)


def left(name: str = "", **flags: Any) -> Setting:
    """pmi from wide left contexts, with features as they are, and one more change."""
    return row("pmi", f", x not normalised, left contexts of 30 words{name}", **LEFT, **flags)


SETTINGS = [
    row("tied"),
    row("word2vec", ", x not normalised", normalize=False),
    row("pmi"),
    row("pmi", ", x not normalised", normalize=False),
    row("pmi", ", x not normalised, left contexts", normalize=False, pmi_context="left"),
    left(),
    left(", learned scale of each word", word_scales=True),
    left(", not centred", pmi_centre=False),
    left(", learned map", output_map="linear"),
    left(", N = 512", output_dim=512),
    left(", perceptron, N = 512", output_dim=512, output_map="mlp"),
]

COMMON = {**studies.COMMON, "max-steps": 250, "dropout": 0.1}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/pmi-parts", SETTINGS, common=COMMON, seeds=[1]))
