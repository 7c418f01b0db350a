"""What brings pmi nearer to tied from a long start, one part changed at a time: 250 steps of WikiText-2, 2×256.

python scripts/study_pmi_parts.py
"""

from __future__ import annotations

import sys
from typing import Any

import studies
from studies import LEFT, START_SCALE, setting, start_at_pmi

from fixlm.compare import Setting, study


def row(name: str, **flags: Any) -> Setting:
    """pmi, with an input embedding that is trained from long PMI vectors."""
    start = {**start_at_pmi("pmi", discount=1), "input_start_scale": START_SCALE}
    return setting("pmi", f"pmi, x not normalised{name}", **start, **flags)


def left(name: str = "", **flags: Any) -> Setting:
    """The same of wide left contexts, with one more change."""
    return row(f", left contexts of 30 words{name}", **LEFT, **flags)


SETTINGS = [
    row("", normalize=False),
    row(", left contexts", normalize=False, pmi_context="left"),
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
