"""The experiments with images: each a network, a data set and the schedule of its authors, for any head."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import image_data
import image_models
import torch
import torch.nn.functional as F
from image_data import Images, shifted
from torch import Tensor, nn

from embeddings.registry import Progress
from fixlm.output.replace_head import replace_head

HEADS = ("learned", "random-orthogonal", "hadamard")
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
VALIDATED_AT_ONCE = 500


@dataclass(frozen=True)
class Experiment:
    """What is trained, and how long.

    Args:
        network: makes the network, with a learned head.
        images: gets the data.
        epochs: in all.
        falls: the epochs from which the learning rate is a tenth of what it was.
        decay_until: the epoch from which weights no longer decay; None: they always do.
        batch_size: pictures of a step.
        pixels: how far a picture is moved at most.
        mirror: whether half of the pictures are mirrored.
    """

    network: Callable[[], nn.Module]
    images: Callable[[], Images]
    epochs: int
    falls: tuple[int, ...]
    decay_until: int | None
    batch_size: int
    pixels: int
    mirror: bool


EXPERIMENTS = {
    "digits": Experiment(
        functools.partial(image_models.resnet, 8, 10, channels=1),
        image_data.digits,
        epochs=30,
        falls=(15, 23),
        decay_until=None,
        batch_size=64,
        pixels=1,
        mirror=False,
    ),
    # 128 is the batch of He et al. (2016); how long the last rate is kept is our choice.
    "cifar10": Experiment(
        functools.partial(image_models.resnet, 56, 10),
        functools.partial(image_data.cifar, "cifar10", "label"),
        epochs=200,
        falls=(81, 122, 164),
        decay_until=122,
        batch_size=128,
        pixels=4,
        mirror=True,
    ),
    "cifar100": Experiment(
        functools.partial(image_models.densenet, 100, 12, 100),
        functools.partial(image_data.cifar, "cifar100", "fine_label"),
        epochs=300,
        falls=(150, 225),
        decay_until=None,
        batch_size=64,
        pixels=4,
        mirror=True,
    ),
}


def train(
    experiment: Experiment, images: Images, head: str, seed: int, epochs: int, progress: Progress
) -> dict[str, Any]:
    """One run, on the device of the images.

    Args:
        head: one of `HEADS`.
        seed: of the network, of a random matrix, and of the order and the moves of the pictures.
        epochs: in all; the schedule is stretched to them.

    Returns:
        After each epoch ``train_error`` and ``valid_error`` (parts of 1) and α, where there is one. The training error
        is counted on the way, on pictures as they are trained on.
    """
    torch.manual_seed(seed)
    network = experiment.network()
    if head != "learned":
        replace_head(network, head, matrix_seed=seed)
    network.to(images.train.device)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    stretch = epochs / experiment.epochs
    falls = [math.ceil(fall * stretch) for fall in experiment.falls]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)
    decay_until = experiment.decay_until and math.ceil(experiment.decay_until * stretch)
    trained = sum(parameter.numel() for parameter in network.parameters())
    run: dict[str, Any] = {"head": head, "seed": seed, "trained_parameters": trained}
    run |= {"train_error": [], "valid_error": [], "alpha": []}
    for epoch in range(epochs):
        if epoch == decay_until:
            optimizer.param_groups[0]["weight_decay"] = 0.0
        run["train_error"].append(train_epoch(network, optimizer, images, experiment))
        run["valid_error"].append(error(network, images.valid, images.valid_classes))
        run["alpha"] += [round(value.item(), 3) for name, value in network.named_parameters() if name.endswith("alpha")]
        schedule.step()
        progress(f"{head}, seed {seed} | {run['valid_error'][-1]:.2%} wrong", epoch + 1, epochs)
    return run


def train_epoch(network: nn.Module, optimizer: torch.optim.Optimizer, images: Images, experiment: Experiment) -> float:
    """One step a batch, in a random order; gives the part of the pictures whose class was not found."""
    network.train()
    wrong = torch.zeros((), dtype=torch.int64, device=images.train.device)
    for places in torch.randperm(len(images.train)).to(images.train.device).split(experiment.batch_size):
        classes = images.train_classes[places]
        logits = network(shifted(images.train[places], experiment.pixels, mirror=experiment.mirror))
        optimizer.zero_grad()
        F.cross_entropy(logits, classes).backward()
        optimizer.step()
        wrong += (logits.argmax(-1) != classes).sum()
    return wrong.item() / len(images.train)


@torch.no_grad()
def error(network: nn.Module, pictures: Tensor, classes: Tensor) -> float:
    """The part of the pictures whose class is not the most probable one."""
    network.eval()
    found = torch.cat([network(batch).argmax(-1) for batch in pictures.split(VALIDATED_AT_ONCE)])
    return (found != classes).float().mean().item()
