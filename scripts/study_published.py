"""2×200 and six epochs of WikiText-2, as users of PyTorch's word_language_model example trained it (its issue #415).

They report a test perplexity of 130.3 tied and 142.1 learned.

python scripts/study_published.py
"""

from __future__ import annotations

import sys

import studies
from studies import LEFT, scaled, setting

from fixlm.compare import study

SETTINGS = [
    setting("tied"),
    scaled("tied"),
    scaled("pmi", ", left contexts of 30 words, x not normalised, dropout 0.2", **LEFT, dropout=0.2),
    scaled("walsh"),
    scaled("walsh", ", lr 0.006, dropout 0.2", lr=0.006, dropout=0.2),
]

COMMON = {**studies.COMMON, "hidden-size": 200, "embed-size": 200, "epochs": 6, "dropout": 0.3}

if __name__ == "__main__":
    sys.exit(study(__doc__, "runs/published", SETTINGS, common=COMMON, seeds=[1]))
