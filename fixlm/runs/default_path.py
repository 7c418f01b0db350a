"""Where a run goes that was given no directory."""

import os
from pathlib import Path

from fixlm.config.train_config import TrainConfig
from fixlm.errors import InputError


def default_path(config: TrainConfig, corpus_name: str) -> Path:
    """``runs/DATA-LAYER-SIZE-seedSEED``, with the preset before the seed unless it is the default one."""
    layer = Path(config.model.output_embed).name
    preset = "" if config.optimization.recipe == "fast" else f"-{config.optimization.recipe}"
    tuned = "" if config.optimization.fine_tune is None else "-fine-tuned"
    size, seed = config.model.hidden_size, config.optimization.seed
    return Path("runs") / f"{corpus_name}-{layer}-{size}{preset}-seed{seed}{tuned}"


def check_default_root() -> None:
    """Raises InputError, before any work is done, if no `default_path` could be made here."""
    root = Path("runs")
    if root.exists() and not root.is_dir():
        raise InputError("runs", "is a file", expected="a directory for runs", fix="choose another place by --run")
    if not os.access(root if root.exists() else ".", os.W_OK | os.X_OK):
        raise InputError("runs", "cannot be written", fix="choose another place by --run")
