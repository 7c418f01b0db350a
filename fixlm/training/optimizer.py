"""The optimizer, its parameter groups and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fixlm.config.schema import OptimizationConfig
from fixlm.model.language_model import LanguageModel, State

ALPHA = "output.alpha"


def make_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """AdamW or SGD over what is trained: matrices decay, biases do not, α has a decay of its own.

    Each group has the key ``part``: what its learning rate is of the run's.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    alpha_decay = config.weight_decay if config.alpha_weight_decay is None else config.alpha_weight_decay
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        matrix = parameter.dim() > 1
        decay = alpha_decay if name == ALPHA else config.weight_decay if matrix else 0.0
        part = config.output_lr if matrix and name.startswith("output.") else 1.0
        members.setdefault((decay, part), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "part": part}
        for (decay, part), parameters in members.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def take_gradients(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    state: State,
    clip: float,
    *,
    ar: float = 0.0,
    tar: float = 0.0,
) -> tuple[Tensor, Tensor, State]:
    """Loss and gradients of one window, clipped; the optimizer's step is the caller's.

    Args:
        ids: (T + 1, B), inputs and, one later, targets.
        state: what the window before left.
        clip: largest norm of the gradient.
        ar, tar: α and β of `LanguageModel.regularized_loss`.

    Returns:
        Mean nats a target without the penalties, norm of the gradient before it was clipped, and the state after
        the window.
    """
    model.input_embedding.recycle_gradient()
    optimizer.zero_grad(set_to_none=True)
    nats, whole, (hidden, cell) = model.regularized_loss(ids[:-1], ids[1:], state, ar, tar)
    whole.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    return nats.detach(), norm, (hidden.detach(), cell.detach())


def learning_rate(step: int, total: int, config: OptimizationConfig) -> float:
    """The rate of step 0 … total − 1: linear warm-up, then ``lr``, or a cosine that ends at ``final_lr · lr``."""
    warmup = min(config.warmup_steps, total // 4)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    part = (step - warmup) / max(1, total - 1 - warmup)  # 0 at the peak, 1 at the last step
    return config.lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * part)) / 2)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: ``optimizer.exp_avg.lstm.weight_ih_l0`` and so on."""
    return {
        f"optimizer.{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave."""
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        kind, _, rest = full_name.partition(".")
        if kind == "optimizer":
            key, _, name = rest.partition(".")
            device = "cpu" if key == "step" else parameters[name].device
            optimizer.state[parameters[name]][key] = value.to(device)
