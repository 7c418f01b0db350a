"""Dropout whose masks hold for a whole window."""

import torch
from torch import Tensor


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
    return x * dropout_mask((1, *x.shape[1:]), rate, x)
