"""Dropout whose masks hold for a whole window."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_part = (0, 1)
"""Which of how many parts of the batch x holds."""


@contextmanager
def part_of_batch(part: int, parts: int) -> Iterator[None]:
    """Within it, x holds one of equal parts of a batch, whose other parts are with other processes.

    Each draws the masks of the whole batch and takes its part. So all have one random state, and masks that do not
    depend on how many processes there are.
    """
    global _part
    before, _part = _part, (part, parts)
    try:
        yield
    finally:
        _part = before


def dropout_mask(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    """0 with probability ``rate``, else 1 / (1 − rate), of the type and on the device of ``like``."""
    keep = 1 - rate
    # Drawn on the CPU whatever the device, so that one random state is all that a checkpoint needs.
    return torch.empty(shape, dtype=like.dtype).bernoulli_(keep).div_(keep).to(like.device)


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout with one mask for all time steps (Gal and Ghahramani 2016; Merity, Keskar and Socher 2017).

    Shape:
        x: (T, B, F) → (T, B, F); the mask is (1, B, F).
    """
    if not training or rate == 0:
        return x
    (part, parts), size = _part, x.shape[1]
    mask = dropout_mask((1, parts * size, *x.shape[2:]), rate, x)
    return x * mask[:, part * size : (part + 1) * size]
