"""The optimizer, its parameter groups and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fixlm.config.schema import OptimizationConfig
from fixlm.model.language_model import LanguageModel, require_like

if TYPE_CHECKING:
    from fixlm.model.core import State
    from fixlm.model.folds import WindowFolds

ALPHAS = ("output.alpha", "output.tail_alpha")
Groups = list[dict[str, Any]]


def _adamw(groups: Groups, config: OptimizationConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.peak_lr, betas=(config.beta1, config.beta2), fused=True)


def _sgd(groups: Groups, config: OptimizationConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=config.peak_lr)


OPTIMIZERS = {"adamw": _adamw, "sgd": _sgd}
"""How each choice of ``--optimizer`` is made. The state of any optimizer of torch is stored and restored as it is."""


def make_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """The optimizer over what is trained: matrices decay, biases do not, α has a decay of its own.

    Each group has the key ``part``: what its learning rate is of the run's.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    alpha_decay = config.weight_decay if config.alpha_weight_decay is None else config.alpha_weight_decay
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        matrix = parameter.dim() > 1
        decay = alpha_decay if name in ALPHAS else config.weight_decay if matrix else 0.0
        part = config.output_lr if matrix and name.startswith("output.") else 1.0
        members.setdefault((decay, part), []).append(parameter)
    groups: Groups = [
        {"params": parameters, "weight_decay": decay, "part": part} for (decay, part), parameters in members.items()
    ]
    return OPTIMIZERS[config.optimizer](groups, config)


def take_gradients(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    state: State,
    clip: float,
    *,
    ar: float = 0.0,
    tar: float = 0.0,
    folds: WindowFolds | None = None,
    loss: Callable[..., tuple[Tensor, Tensor, State]] | None = None,
) -> tuple[Tensor, Tensor, State]:
    """Loss and gradients of one window, clipped; the optimizer's step is the caller's.

    Args:
        ids: (T + 1, B), inputs and, one later, targets.
        state: what the window before left.
        clip: largest norm of the gradient.
        ar, tar, folds: as `LanguageModel.regularized_loss` has them.
        loss: what to call in place of that method.

    Returns:
        Mean nats a target without the penalties, norm of the gradient before it was clipped, and the state after
        the window.
    """
    model.input_embedding.recycle_gradient()
    optimizer.zero_grad(set_to_none=True)
    nats, whole, state = (loss or model.regularized_loss)(ids[:-1], ids[1:], state, ar, tar, folds)
    whole.backward()
    norm = nn.utils.get_total_norm([part.grad for part in model.parameters() if part.grad is not None])
    if not norm + 1e-6 <= clip:  # the rule of `clip_grad_norm_`, which takes the time to multiply by 1 as well
        nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
    return nats.detach(), norm, tuple(part.detach() for part in state)


def learning_rate(step: int, total: int, config: OptimizationConfig) -> float:
    """The rate of step 0 … total − 1: linear warm-up, then ``lr``, or a cosine that ends at ``final_lr · lr``."""
    warmup = min(config.warmup_steps, total // 4)
    if step < warmup:
        return config.peak_lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.peak_lr
    part = (step - warmup) / max(1, total - 1 - warmup)  # 0 at the peak, 1 at the last step
    return config.peak_lr * (config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * part)) / 2)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: ``optimizer.exp_avg.lstm.weight_ih_l0`` and so on."""
    return {
        f"optimizer.{key}.{name}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None  # as the momentum buffer of SGD without momentum
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: LanguageModel, config: OptimizationConfig, tensors: Mapping[str, Tensor]
) -> None:
    """Puts back what `optimizer_tensors` gave after at least one step.

    Where the output layer leaves gradients out, a weight that had none yet has no state either.

    Raises:
        KeyError, ValueError: a tensor is missing, or has another shape or type.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    examples: dict[int, dict[str, Any]] = {}  # by the number of dimensions
    state: dict[int, dict[str, Any]] = {}
    in_order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(in_order):
        if parameter.dim() not in examples:
            examples[parameter.dim()] = _state_of_one_step(config, parameter.dim())
        wanted = {key: f"optimizer.{key}.{names[parameter]}" for key in examples[parameter.dim()]}
        if model.output.leaves_gradients_out and tensors.keys().isdisjoint(wanted.values()):
            continue
        state[index] = {}
        sizes = dict(zip(EXAMPLE_SHAPE, parameter.shape, strict=False))
        for key, example in examples[parameter.dim()].items():
            name, like = wanted[key], torch.as_tensor(example)
            shape = [sizes.get(size, size) for size in like.shape]
            require_like(name, tensors[name], torch.empty(shape, dtype=like.dtype, device="meta"))
            state[index][key] = tensors[name] if isinstance(example, Tensor) else tensors[name].item()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


EXAMPLE_SHAPE = (2, 3, 5, 7)
"""Sizes that differ, so that a size in the optimizer's state tells which size of the parameter it is."""


def _state_of_one_step(config: OptimizationConfig, dimensions: int) -> dict[str, Any]:
    """What the optimizer keeps of a parameter whose shape is the start of `EXAMPLE_SHAPE`: tensors and numbers."""
    module = nn.ParameterList([torch.zeros(EXAMPLE_SHAPE[:dimensions])])
    optimizer = make_optimizer(module, config)
    module[0].grad = torch.zeros_like(module[0])
    optimizer.step()
    return {key: value for key, value in optimizer.state[module[0]].items() if value is not None}
