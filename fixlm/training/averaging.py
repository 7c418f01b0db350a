"""Averages of the weights over the last steps, which are scored in place of the weights themselves."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fixlm.model.language_model import require_like


def newest_share(count: int, decay: float | None = None) -> float:
    """The share of the newest of ``count`` weights in their average.

    Without a decay each weighs the same: 1/n. With one, the k-th last weighs decayᵏ, the sum of them all made 1:
    (1 − d) / (1 − dⁿ). So the untrained weights of the start have no part in it, however short the run.
    """
    return 1 / count if decay is None else (1 - decay) / (1 - decay**count)


def has_stalled(scores: Sequence[float], interval: int) -> bool:
    """Whether averaging is to begin: the criterion of NT-ASGD (Merity, Keskar and Socher 2017, algorithm 1).

    Args:
        scores: of all validations so far, lower is better.
        interval: n: the newest is compared with the best of those more than n validations before it.
    """
    before = scores[: -1 - interval]
    return bool(before) and scores[-1] > min(before)


def has_no_patience_left(scores: Sequence[float], patience: int | None) -> bool:
    """Whether none of the last ``patience`` validations is better than the best before them; None: never."""
    if patience is None or len(scores) <= patience:
        return False
    return min(scores[-patience:]) >= min(scores[:-patience])


class WeightAverage:
    """The average of what a model's trained weights were after each of the last steps; frozen ones have none.

    Args:
        model: whose weights; by name, the average holds a tensor of the same shape for each that is trained.
        decay: of an exponential moving average; None: the plain mean.
    """

    def __init__(self, model: nn.Module, decay: float | None = None) -> None:
        self.decay = decay
        self.parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
        self.tensors = {name: part.detach().clone() for name, part in self.parameters.items()}

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Takes the weights of now into the average, as the ``count``-th of them."""
        share = newest_share(count, self.decay)
        for name, average in self.tensors.items():
            average.lerp_(self.parameters[name], share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights until the block ends, and then its own, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            self.tensors[name], parameter.data = parameter.data, self.tensors[name]

    def own_weights(self) -> dict[str, Tensor]:
        """The weights that training goes on with, as named tensors: ``weights.lstm.weight_ih_l0`` and so on."""
        return {f"weights.{name}": parameter.detach() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def take_own_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `own_weights` gave; what the model had until then stays the average.

        Raises:
            KeyError, ValueError: a tensor is missing, or of another shape.
        """
        for name, parameter in self.parameters.items():
            require_like(f"weights.{name}", tensors[f"weights.{name}"], parameter)
            parameter.copy_(tensors[f"weights.{name}"])
