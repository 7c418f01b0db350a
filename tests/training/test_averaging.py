"""Averages of the weights: what they are, when they begin, and that training goes on beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_end, final, interrupt, same, train
from safetensors.torch import load_file
from torch import nn

from fixlm.evaluation.perplexity import Score, evaluate
from fixlm.training import trainer as training_loop
from fixlm.training.averaging import WeightAverage, has_no_patience_left, has_stalled, newest_share

pytestmark = pytest.mark.slow  # most of these train a model


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def state_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "checkpoints/last/state.json").read_text())


@pytest.mark.parametrize("decay", [None, 0.8])
def test_the_average_is_that_of_the_weights_after_each_step(decay: float | None) -> None:
    model = nn.Linear(3, 2)
    average, history = None, []
    for count in range(1, 7):
        nn.init.normal_(model.weight)
        history.append(model.weight.detach().clone())
        average = average or WeightAverage(model, decay)
        average.update(count)
        weights = torch.tensor([(decay or 1.0) ** (count - i) for i in range(1, count + 1)])
        expected = torch.einsum("n,nij->ij", weights / weights.sum(), torch.stack(history))
        torch.testing.assert_close(average.tensors["weight"], expected)
    assert newest_share(10**6, 0.999) == pytest.approx(0.001)


def test_the_model_has_its_own_weights_again_also_after_an_error() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad = False
    average = WeightAverage(model)
    assert set(average.tensors) == {"weight"}  # what is frozen has no average
    nn.init.normal_(model.weight)
    average.update(2)
    own, averaged = model.weight.detach().clone(), average.tensors["weight"].clone()

    def fail() -> None:
        with average.in_place():
            assert torch.equal(model.weight, averaged)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(model.weight, own)
    assert torch.equal(average.tensors["weight"], averaged)


@pytest.mark.parametrize(
    ("scores", "interval", "expected"),
    [
        ([], 1, False),
        ([3, 4], 1, False),  # nothing is more than one validation before
        ([3, 2, 4], 1, True),
        ([3, 2, 3], 1, False),  # no worse
        ([3, 1, 2], 1, False),  # worse than the one before alone
        ([1, 9, 9, 9, 9, 2], 5, False),
        ([1, 9, 9, 9, 9, 9, 2], 5, True),
    ],
)
def test_averaging_begins_when_a_validation_is_worse_than_the_best_before_the_interval(
    scores: list[float], interval: int, expected: bool
) -> None:
    assert has_stalled(scores, interval) == expected


def test_patience() -> None:
    assert not has_no_patience_left([1, 2, 3, 4], None)
    assert not has_no_patience_left([3, 2, 3], 2)
    assert has_no_patience_left([3, 2, 3, 2], 2)
    assert not has_no_patience_left([2, 2], 2)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights that training goes on with, after each step of the next runs."""
    seen: list[dict[str, torch.Tensor]] = []
    step = training_loop.Trainer._step

    def step_and_look(trainer: training_loop.Trainer) -> None:
        step(trainer)
        seen.append(trained(trainer.model))

    monkeypatch.setattr(training_loop.Trainer, "_step", step_and_look)
    return seen


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The next validations have these perplexities."""
    coming: list[float] = []
    monkeypatch.setattr(training_loop, "evaluate", lambda *arguments: Score(coming.pop(0), 100))
    return coming


def test_ema_is_scored_and_kept_and_the_optimizer_goes_on_with_its_own_weights(
    small: list[str], tmp_path: Path, weights: list[dict[str, torch.Tensor]]
) -> None:
    flags = [*small, "--output-embed", "random-orthogonal", "--input-embed", "fixed", "--run"]
    ema = tmp_path / "ema"
    assert train(*flags, str(tmp_path / "plain")) == 0
    plain = weights.copy()
    weights.clear()
    assert train(*flags, str(ema), "--average", "ema", "--ema-decay", "0.9") == 0
    assert all(same(one, other) for one, other in zip(plain, weights, strict=True))
    shares = torch.tensor([0.9 ** (24 - i) for i in range(1, 25)])
    kept, own = final(ema), load_file(ema / "checkpoints/last/training.safetensors")
    for name in weights[-1]:
        steps = torch.stack([step[name] for step in weights]).double()
        expected = torch.tensordot((shares / shares.sum()).double(), steps, 1).float()
        torch.testing.assert_close(kept[name], expected)
        assert torch.equal(own[f"weights.{name}"], weights[-1][name])
    # The frozen matrix is as it was, and has no average.
    vectors = load_file(ema / "output_matrix.safetensors")["vectors"]
    assert torch.equal(kept["input_embedding.weight"], vectors)
    assert not any("input_embedding" in name or "vectors" in name for name in own)
    # The score in the metrics is that of the files.
    from fixlm.corpus.corpus import load
    from fixlm.runs.directory import RunDirectory
    from fixlm.runs.load_model import find_checkpoint, load_model

    run = RunDirectory(ema)
    again = evaluate(load_model(run, find_checkpoint(run, "last")), load(small[1]), "valid")
    assert [record for record in run.read_metrics() if "validation" in record][-1]["validation"] == again.to_json()


def test_nt_asgd_averages_from_the_validation_that_triggers_it(
    small: list[str], tmp_path: Path, weights: list[dict[str, torch.Tensor]], scores: list[float]
) -> None:
    run = tmp_path / "run"
    scores += [9, 8, 7, 8.5, 8.1, 1, 1, 1]  # the fifth, 8.1, is worse than 8, the best but the last two before it
    flags = "--output-embed hadamard --average nt-asgd --nonmono 2 --validate-every 3 --optimizer sgd --lr 1"
    assert train(*small, *flags.split(), "--run", str(run)) == 0
    assert state_of(run)["average_start"] == 15
    kept, own = final(run), load_file(run / "checkpoints/last/training.safetensors")
    for name, value in weights[-1].items():
        torch.testing.assert_close(kept[name], torch.stack([step[name] for step in weights[15:]]).mean(0))
        assert torch.equal(own[f"weights.{name}"], value)
    assert not same(kept, weights[-1])


def test_without_a_trigger_nothing_is_averaged(
    small: list[str], tmp_path: Path, weights: list[dict[str, torch.Tensor]], scores: list[float]
) -> None:
    run = tmp_path / "run"
    scores += [9, 8, 7, 6, 5, 4, 3, 2]
    flags = "--output-embed hadamard --average nt-asgd --nonmono 2 --validate-every 3"
    assert train(*small, *flags.split(), "--run", str(run)) == 0
    assert state_of(run)["average_start"] is None
    assert all(torch.equal(final(run)[name], value) for name, value in weights[-1].items())
    assert not any(n.startswith("weights.") for n in load_file(run / "checkpoints/last/training.safetensors"))


def test_a_run_without_patience_ends_early_and_stays_ended(
    small: list[str], tmp_path: Path, scores: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    scores += [9, 8, 8.5, 8.2]
    flags = "--output-embed tied --patience 2 --validate-every 3 --max-steps 24"
    assert train(*small, *flags.split(), "--run", str(run)) == 0
    assert "the last 2 validations were no better: training ends here" in capsys.readouterr().err
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["best_step"]) == (12, 6)
    (run / "result.json").unlink()
    assert train("--resume", "--run", str(run)) == 0
    assert json.loads((run / "result.json").read_text())["steps"] == 12


AWD = "--recipe awd --hidden-size 12 --embed-size 16 --batch-size 4 --bptt 10 --lr 20 --nonmono 1 --threads 1"


@pytest.mark.parametrize("layer", ["hadamard", "tied"])
def test_the_awd_recipe_stopped_before_and_after_the_trigger_is_the_uninterrupted_run(
    layer: str, small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    flags = [*small[:2], *AWD.split(), "--output-embed", layer, "--max-steps", "40", "--validate-every", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(*flags, "--run", str(whole)) == 0
    start = state_of(whole)["average_start"]
    assert 3 < start < 38
    stops = [start - 1, start, start + 1, 39]
    for stop in stops:
        at_step(stop, interrupt)
    assert train(*flags, "--run", str(cut)) == 130
    for stop in stops[1:]:
        assert train("--resume", "--run", str(cut)) == 130
        assert os.readlink(cut / "checkpoints/last") == f"step-{stop}"
    assert train("--resume", "--run", str(cut)) == 0
    assert_same_end(whole, cut)


def test_a_checkpoint_whose_own_weights_are_gone_does_not_fit_its_run(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    from fixlm.runs import checkpoint

    run = tmp_path / "run"
    at_step(5, interrupt)
    assert train(*small, "--output-embed", "tied", "--average", "ema", "--run", str(run)) == 130
    saved = checkpoint.verify(run / "checkpoints/step-5")
    tensors = {k: v for k, v in saved.training().items() if k != "weights.lstm.weight_hh_l1"}
    checkpoint.save(run / "checkpoints", 5, saved.model(), tensors, saved.state(), best=False)
    assert train("--resume", "--run", str(run)) == 2
    assert (
        "the checkpoint does not fit its run (found KeyError('weights.lstm.weight_hh_l1'))" in capsys.readouterr().err
    )
