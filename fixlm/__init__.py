"""Language models whose output layer need not be trained, and fixed output layers for any network.

>>> import fixlm
>>> sorted(fixlm.__all__)
['ClusteredOutput', 'FixedClassifier', 'FixedOutput', 'HadamardOutput', 'HubRun', 'LearnedOutput', 'Run', 'WalshOutput', 'fit', 'linear_cross_entropy', 'load', 'replace_head']

What is named there is imported when it is first used: ``import fixlm`` itself loads no torch.
"""  # noqa: E501

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fixlm.evaluation.hub import HubRun
    from fixlm.evaluation.run import Run, load
    from fixlm.output.classifier import FixedClassifier
    from fixlm.output.clustered import ClusteredOutput
    from fixlm.output.cross_entropy import linear_cross_entropy
    from fixlm.output.fixed import FixedOutput
    from fixlm.output.hadamard import HadamardOutput
    from fixlm.output.learned import LearnedOutput
    from fixlm.output.replace_head import replace_head
    from fixlm.output.walsh import WalshOutput
    from fixlm.training.fit import fit

__version__ = "0.1.0"
__all__ = [
    "ClusteredOutput",
    "FixedClassifier",
    "FixedOutput",
    "HadamardOutput",
    "HubRun",
    "LearnedOutput",
    "Run",
    "WalshOutput",
    "fit",
    "linear_cross_entropy",
    "load",
    "replace_head",
]

_MODULES = {
    "ClusteredOutput": "fixlm.output.clustered",
    "FixedClassifier": "fixlm.output.classifier",
    "FixedOutput": "fixlm.output.fixed",
    "HadamardOutput": "fixlm.output.hadamard",
    "HubRun": "fixlm.evaluation.hub",
    "LearnedOutput": "fixlm.output.learned",
    "Run": "fixlm.evaluation.run",
    "WalshOutput": "fixlm.output.walsh",
    "fit": "fixlm.training.fit",
    "linear_cross_entropy": "fixlm.output.cross_entropy",
    "load": "fixlm.evaluation.run",
    "replace_head": "fixlm.output.replace_head",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fixlm' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _require_own_embeddings() -> None:
    """Raises ImportError where ``import embeddings`` would find a package of another distribution."""
    spec = importlib.util.find_spec("embeddings")
    found = None if spec is None or spec.origin is None else Path(spec.origin)
    if found is None or "fixlm" not in found.read_text(encoding="utf-8", errors="replace"):
        raise ImportError(
            f"fixlm needs the package `embeddings` that comes with it, but Python finds {found or 'none'}. "
            "Fix: pip uninstall embeddings, then install fixlm again, or give fixlm a virtual environment of its own."
        )


_require_own_embeddings()
