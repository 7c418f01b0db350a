"""The image networks: their sizes, the authors' schedules, and runs of a step or two on stand-ins of the data."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch import nn

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def module(name: str) -> Any:
    return importlib.import_module(name)


def main(*arguments: str) -> int:
    status: int = module("image_networks").run(module("image_networks").command, arguments)
    return status


@pytest.mark.parametrize(("experiment", "published"), [("cifar10", 0.85e6), ("cifar100", 0.8e6)])
def test_networks_have_the_published_sizes(experiment: str, published: float) -> None:
    with torch.device("meta"):
        network = module("image_training").EXPERIMENTS[experiment].network()
    assert round(sum(each.numel() for each in network.parameters()), -4) == pytest.approx(published, abs=1)


def test_counts_are_of_learned_and_fixed_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = types.ModuleType("torchvision.models")
    models.get_model = lambda name: nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 5))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setattr("importlib.metadata.version", lambda library: "1")
    assert main("counts", "--json", str(tmp_path / "counts.json")) == 0
    found = json.loads((tmp_path / "counts.json").read_text())["networks"]
    expected = {"parameters": 77, "head": 40, "head_percent": 51.95, "trained_with_fixed_head": 38}
    assert found["resnet50"] == expected
    assert "resnet50: 77 parameters, 40 (51.95 %) in the head; 38 with a fixed head" in capsys.readouterr().out


def test_a_torchvision_that_cannot_be_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert main("counts") == 2
    assert "torchvision: cannot be imported" in capsys.readouterr().err


def tiny_images() -> Any:
    pictures, classes = torch.randn(6, 1, 4, 4), torch.arange(6) % 3
    return module("image_data").Images(pictures, classes, pictures, classes)


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("cifar10", {0: (0.1, 1e-4), 81: (0.01, 1e-4), 122: (0.001, 0.0), 164: (0.0001, 0.0)}),
        ("cifar100", {0: (0.1, 1e-4), 150: (0.01, 1e-4), 225: (0.001, 1e-4)}),
    ],
)
def test_the_schedule_is_the_authors(
    experiment: str, expected: dict[int, tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = module("image_training")
    used = []

    def note(network: nn.Module, optimizer: torch.optim.SGD, *others: object) -> float:
        optimizer.step()
        used.append((round(optimizer.param_groups[0]["lr"], 9), optimizer.param_groups[0]["weight_decay"]))
        return 0.0

    monkeypatch.setattr(training, "train_epoch", note)
    plan = training.EXPERIMENTS[experiment]
    small = dataclasses.replace(plan, network=lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    training.train(small, tiny_images(), "learned", 1, plan.epochs, lambda *details: None)
    changes = {epoch: now for epoch, now in enumerate(used) if epoch == 0 or now != used[epoch - 1]}
    assert changes == expected


@pytest.mark.parametrize("mirror", [False, True])
def test_pictures_are_moved_and_mirrored_but_not_changed_otherwise(mirror: bool) -> None:
    torch.manual_seed(1)
    pictures = torch.rand(40, 2, 5, 5) + 1
    moved = module("image_data").shifted(pictures, 1, mirror=mirror)
    padded = nn.functional.pad(pictures, (1, 1, 1, 1))
    places = set()
    for before, after in zip(padded, moved, strict=True):
        crops = {(y, x): before[:, y : y + 5, x : x + 5] for y in range(3) for x in range(3)}
        crops |= {(*place, "mirrored"): crop.flip(2) for place, crop in crops.items()} if mirror else {}
        found = [place for place, crop in crops.items() if torch.equal(crop, after)]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > (9 if mirror else 7)


def stand_in(column: str, classes: int) -> datasets.DatasetDict:
    """Pictures in the layout of CIFAR on the hub, two of each of some classes."""
    draw = np.random.default_rng(1)
    kinds = {"img": datasets.Image(), column: datasets.ClassLabel(num_classes=classes)}

    def split(count: int) -> datasets.Dataset:
        pictures = [*draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)]
        rows = {"img": pictures, column: [place % classes for place in range(count)]}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))

    return datasets.DatasetDict({"train": split(4), "test": split(3)})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "column", "classes"), [("cifar10", "label", 10), ("cifar100", "fine_label", 100)])
def test_cifar_trains_and_validates_through_datasets(
    name: str,
    column: str,
    classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda place: asked.append(place) or stand_in(column, classes))
    flags = ["--epochs", "1", "--seeds", "1", "--heads", "learned,hadamard", "--json", str(tmp_path / "a.json")]
    assert main(name, *flags) == 0
    assert asked == [f"uoft-cs/{name}"]
    learned, fixed = json.loads((tmp_path / "a.json").read_text())["runs"]
    width = {"cifar10": 64, "cifar100": 342}[name]
    assert learned["trained_parameters"] - fixed["trained_parameters"] == width * classes - 1
    assert len(fixed["valid_error"]) == len(fixed["alpha"]) == 1
    assert "| `hadamard` |" in capsys.readouterr().out


def test_data_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_dataset(place: str) -> None:
        raise ConnectionError("no route\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert main("cifar10") == 2
    assert "cifar10: the data set cannot be had (found ConnectionError: no route)" in capsys.readouterr().err


@pytest.mark.slow
def test_digits_are_learned_with_a_fixed_head(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    json_file, plot = tmp_path / "digits.json", tmp_path / "digits.png"
    flags = ["--epochs", "3", "--seeds", "1", "--heads", "random-orthogonal", "--json", str(json_file)]
    assert main("digits", *flags, "--plot", str(plot)) == 0
    report = json.loads(json_file.read_text())
    assert report["setting"]["versions"]["torch"]
    (run,) = report["runs"]
    assert len(run["train_error"]) == len(run["alpha"]) == 3
    assert run["valid_error"][-1] < 0.4  # by guessing: 0.9
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_means_and_deviations_are_of_the_last_epoch() -> None:
    runs = [
        {"head": "learned", "trained_parameters": 5000, "train_error": [0.9, last], "valid_error": [0.9, 2 * last]}
        for last in (0.01, 0.03)
    ]
    assert "| `learned` | 5,000 | 2.00 ± 1.41 | 4.00 ± 2.83 | 96.00 ± 2.83 |" in module("image_report").table(
        {"runs": runs}
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifar"], "image_networks.py: unknown experiment 'cifar'. Fix: Did you mean 'cifar10'?"),
        (["digits", "--heads", "learnt"], "--heads: unknown head 'learnt'. Fix: Did you mean 'learned'?"),
        (["digits", "--device", "nothing"], "--device: this torch cannot use it (found nothing"),
        (["digits", "--json", "nowhere/a.json"], "--json: there is no such directory (found nowhere)"),
        (["counts", "--epochs", "3"], "--epochs: unknown flag"),
    ],
)
def test_what_is_wrong_is_said_at_once(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(*arguments) == 2
    assert message in capsys.readouterr().err
