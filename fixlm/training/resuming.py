"""The checkpoint that a run goes on from."""

import logging
from pathlib import Path
from typing import Any

from fixlm.errors import InputError
from fixlm.runs import checkpoint
from fixlm.training.state import no_best

logger = logging.getLogger(__name__)


def newest_checkpoint(root: Path) -> checkpoint.Checkpoint:
    """The newest checkpoint that is whole.

    Raises:
        InputError: there is none.
    """
    saved = checkpoint.newest(root)
    if saved is None:
        fix = "train it anew under another --run"
        raise InputError("--resume", "no checkpoint to go on from", found=root, fix=fix)
    return saved


def mend_links(root: Path, best_step: int | None) -> None:
    """Points ``best`` at its checkpoint in a finished run whose links were lost, as some programs copy none."""
    if best_step is None or checkpoint.find(root, "best") is not None:
        return
    if checkpoint.find(root, f"step-{best_step}") is not None:
        checkpoint.point(root, "best", best_step)


def point_links(root: Path, step: int, best: dict[str, Any]) -> dict[str, Any]:
    """Points ``last`` at a step and ``best`` at the best one so far.

    Returns:
        `TrainingState.best`; without a step where its checkpoint is damaged: the next validation takes its place.
    """
    checkpoint.point(root, "last", step)
    if best["step"] is None:
        return best
    try:
        checkpoint.verify(root / f"step-{best['step']}")
    except InputError as error:
        logger.warning(f"{error} It was the best so far; the best of what follows takes its place.")
        return no_best()
    checkpoint.point(root, "best", best["step"])
    return best
