"""How long the vectors at which the input embedding starts should be: 250 steps of WikiText-2, 2×256.

python scripts/study_start_scale.py
"""

from __future__ import annotations

import sys
from typing import Any

import studies
from studies import discounted, setting

from fixlm.compare import Setting, study


def row(layer: str, scale: int, name: str = "", **flags: Any) -> Setting:
    """A layer from discounted PMI vectors of norm 1, which are multiplied at the input."""
    return discounted(layer, f" × {scale}{name}", input_start_scale=scale, **flags)


SETTINGS = [
    *(row("tied", scale) for scale in (1, 4, 8, 16)),
    # As long without meaning: what the length alone does. A random start has a norm of about 0.9.
    *(setting("tied", f"tied, random start × {scale}", input_start_scale=scale) for scale in (1, 8)),
    *(row("learned", 8, f", output × {scale}", output_start_scale=scale) for scale in (1, 8)),
    *(row("walsh", scale) for scale in (1, 8, 16)),
    *(row("walsh", scale, ", reads its families", walsh_tied=True) for scale in (4, 8)),
]

COMMON = {**studies.COMMON, "max-steps": 250}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/start-scale", SETTINGS, common=COMMON, seeds=[1]))
