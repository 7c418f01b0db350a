"""The paper's image networks with learned and fixed heads.

  python scripts/image_networks.py digits     a ResNet-8 on scikit-learn's digits, minutes on a CPU
  python scripts/image_networks.py cifar10    the paper's ResNet-56 on CIFAR-10, for a GPU (--device cuda)
  python scripts/image_networks.py cifar100   the paper's DenseNet-BC(100, 12) on CIFAR-100, for a GPU
  python scripts/image_networks.py counts     parameter counts of the paper's networks, without data

The first three train each head from each seed and print a table. --help after the name lists the flags. What they need
beyond fixlm comes with pip install 'fixlm[images]'.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from places import require_places

from embeddings.files import write_json
from embeddings.options import Checked, Count, option
from fixlm.cli import run
from fixlm.config.command_line import read_command_line
from fixlm.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import nn

TRAINED = {
    "digits": "a ResNet-8 on scikit-learn's digits",
    "cifar10": "ResNet-56 on CIFAR-10",
    "cifar100": "DenseNet-BC(100, 12) on CIFAR-100",
}
"""The experiments of `image_training`, which brings torch with it."""
COUNTED = ("resnet50", "densenet169", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0")
"""Of torchvision, which has no ShuffleNet of the first version; the paper's has a size between these two."""
PAIR = "in an environment of its own: pip install torch==2.14.1 torchvision==0.29.1"


@dataclass(frozen=True)
class CountSettings(Checked):
    """Where the counts go."""

    json: str | None = option(None, "JSON file to write the counts to")


@dataclass(frozen=True)
class TrainSettings(Checked):
    """What is trained."""

    heads: str = option("learned,random-orthogonal,hadamard", "heads to train, separated by commas")
    seeds: Count = option(5, "number of runs of each head, from seed 1 on")
    epochs: Count | None = option(
        None, "epochs of a run. The schedule is stretched to them (none: those of the experiment)"
    )
    device: str = option("cpu", "where to train: cpu, cuda, cuda:1, mps, …")
    threads: Count = option(1, "number of torch's threads")
    json: str | None = option(None, "JSON file to write the curves to, after each run")
    plot: str | None = option(None, "PNG file for a plot of the curves")


def command(arguments: Sequence[str]) -> None:
    """Does what the first word of the command line says."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__, end="")
    elif name == "counts":
        count(read_command_line(rest, CountSettings, "Parameter counts of the paper's networks."))
    elif name in TRAINED:
        train(name, read_command_line(rest, TrainSettings, f"Trains {TRAINED[name]} with each head."))
    else:
        raise unknown_name("image_networks.py", "experiment", name, [*TRAINED, "counts"])


def train(name: str, settings: TrainSettings) -> None:
    """Trains every head from every seed; prints the table, writes the curves and the plot."""
    import torch
    from image_report import plot, table
    from image_training import EXPERIMENTS, HEADS
    from image_training import train as train_one

    from fixlm.console import progress
    from fixlm.runs.versions import versions
    from fixlm.training.fit import require_device

    heads = settings.heads.split(",")
    for head in heads:
        if head not in HEADS:
            raise unknown_name("--heads", "head", head, HEADS)
    require_places(json=settings.json, plot=settings.plot)
    require_device(settings.device)
    torch.set_num_threads(settings.threads)
    experiment = EXPERIMENTS[name]
    epochs = settings.epochs or experiment.epochs
    images = experiment.images().to(settings.device)
    setting = {"experiment": name, "epochs": epochs, "device": settings.device, "versions": versions()}
    report: dict[str, Any] = {"setting": setting, "runs": []}
    with progress() as show:
        for seed in range(1, settings.seeds + 1):
            for head in heads:
                report["runs"].append(train_one(experiment, images, head, seed, epochs, show))
                if settings.json is not None:
                    write_json(Path(settings.json), report)
    print(table(report))
    if settings.plot is not None:
        plot(report, Path(settings.plot))


def count(settings: CountSettings) -> None:
    """Prints, and writes, how many numbers each network has with a learned and with a fixed head."""
    from importlib.metadata import version

    from fixlm.runs.versions import versions

    require_places(json=settings.json)
    counts = {name: counted(network) for name, network in networks().items()}
    for name, found in counts.items():
        share = f"{found['head']:,} ({found['head_percent']} %) in the head"
        fixed = f"{found['trained_with_fixed_head']:,} with a fixed head"
        print(f"{name}: {found['parameters']:,} parameters, {share}; {fixed}")
    if settings.json is not None:
        write_json(
            Path(settings.json), {"networks": counts, "versions": versions() | {"torchvision": version("torchvision")}}
        )


def networks() -> dict[str, nn.Module]:
    """Each network without its numbers."""
    import torch
    from image_training import EXPERIMENTS

    try:
        from torchvision.models import get_model
    except (ImportError, RuntimeError) as error:  # the latter where torch is of another build
        raise InputError("torchvision", "cannot be imported", found=str(error).partition("\n")[0], fix=PAIR) from None
    with torch.device("meta"):
        theirs = {name: get_model(name) for name in COUNTED}
        return theirs | {TRAINED[name]: EXPERIMENTS[name].network() for name in ("cifar10", "cifar100")}


def counted(network: nn.Module) -> dict[str, Any]:
    """The parameters of a network with a learned head, how many of them its matrix has, and how many are left."""
    from fixlm.output.replace_head import replace_head

    replaced = replace_head(network, "hadamard")
    matrix = replaced.head.in_features * replaced.head.out_features
    return {
        "parameters": replaced.before,
        "head": matrix,
        "head_percent": round(100 * matrix / replaced.before, 2),
        "trained_with_fixed_head": replaced.after,
    }


if __name__ == "__main__":
    sys.exit(run(command))
