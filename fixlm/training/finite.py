"""What is said of a run whose numbers are not finite any more."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fixlm.errors import InputError


def diverged(step: int, loss: float, norm: float, rate: float, model: nn.Module, kept: Path) -> InputError:
    """The error of a step whose loss or gradient norm is not finite; ``kept`` has the last good checkpoint."""
    weights = torch.stack([parameter.detach().norm() for parameter in model.parameters()]).norm().item()
    found = f"loss {loss:g}, gradient norm {norm:g}, norm of the weights {weights:g} at learning rate {rate:g}"
    return InputError(f"step {step}", "the loss or its gradient is not finite", found=found, fix=_fix(kept))


def require_finite(step: int, tensors: Mapping[str, Tensor], kept: Path) -> None:
    """Raises InputError if one of the weights is not finite."""
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        found = f"NaN or infinity in {', '.join(broken)}"
        raise InputError(f"step {step}", "the weights are not finite", found=found, fix=_fix(kept))


def _fix(kept: Path) -> str:
    return f"a lower --lr in a new run; the last good checkpoint is kept in {kept}"
