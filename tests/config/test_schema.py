"""A configuration that is wrong cannot exist, whether flags, Python or JSON describe it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from embeddings.methods import pmi, walsh
from fixlm.config.read import read_config
from fixlm.config.schema import ModelConfig, OptimizationConfig, RunConfig, TrainConfig
from fixlm.errors import InputError, InputErrors
from fixlm.output.options import FixedOptions, LearnedOptions


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizationConfig(final_lr=2.0), "final_lr: out of range (found 2.0, expected a number at least 0 and at most 1)."),
        (lambda: OptimizationConfig(lr=float("nan")), "lr: out of range (found nan, expected a number above 0 and at most 100)."),
        (lambda: OptimizationConfig(epochs="3"), "epochs: not of the right kind (found '3', expected a whole number at least 1)."),
        (lambda: OptimizationConfig(optimizer="adam"), "optimizer: unknown choice 'adam'. Fix: Did you mean 'adamw'?"),
        (lambda: ModelConfig(hidden_size=True), "hidden_size: not of the right kind (found True, expected a whole number at least 1)."),
        (lambda: ModelConfig(dropout=1), "dropout: out of range (found 1, expected a number at least 0 and below 1)."),
        (lambda: RunConfig(device=None), "device: not of the right kind (found None, expected a text)."),
        (lambda: pmi.Options(window=0), "window: out of range (found 0, expected a whole number at least 1)."),
        (lambda: walsh.Options(families=48), "families: not a possible number of families (found 48, expected a power of two"),
        (lambda: FixedOptions(alpha=-1.0), "alpha: out of range (found -1.0, expected a number above 0)."),
        (lambda: dataclasses.replace(OptimizationConfig(), seed=-1), "seed: out of range (found -1, expected a whole number at least 0)."),
        (lambda: TrainConfig(model=ModelConfig(output_embed="pmj")), "output_embed: unknown output embedding 'pmj'. Fix: Did you mean 'pmi'?"),
        (lambda: TrainConfig(model=ModelConfig(output_embed="tied", input_embed="fixed")), "input_embed: 'fixed' needs an output matrix"),
        (lambda: TrainConfig(output=LearnedOptions()), "output: not the options of this layer (found LearnedOptions, expected FixedOptions)."),
        (lambda: TrainConfig(output=FixedOptions(output_map_size=9)), "output_map_size: only a perceptron has this size"),
    ],
)  # fmt: skip
def test_a_wrong_object_is_refused_when_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, ValueError)


def test_every_wrong_value_of_an_object_is_named() -> None:
    with pytest.raises(InputErrors) as caught:
        OptimizationConfig(lr=0.0, epochs=0, precision="float16")
    assert [error.where for error in caught.value.errors] == ["epochs", "lr", "precision"]


def test_python_flags_and_json_describe_the_same_configuration() -> None:
    values = {"output_embed": "pmi", "lr": 0.01, "epochs": 2, "pmi_window": 7, "alpha": 8.0, "normalize": False}
    typed = read_config(values)
    flags = {name.replace("_", "-"): value if isinstance(value, bool) else str(value) for name, value in values.items()}
    assert read_config(flags) == typed
    stored = json.loads(json.dumps(typed.to_json()))
    assert TrainConfig.from_json(stored) == typed
    assert (typed.output.alpha, typed.matrix_options("pmi").window) == (8.0, 7)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("group", "name", "value", "where"),
    [
        ("optimization", "final_lr", 2.0, "final_lr"),
        ("model", "hidden_size", "512", "hidden_size"),
        ("model", "alpha", -1.0, "alpha"),
    ],
)
def test_json_is_held_to_the_same_ranges(group: str, name: str, value: object, where: str) -> None:
    values = TrainConfig().to_json()
    values[group][name] = value
    with pytest.raises(InputError) as caught:
        TrainConfig.from_json(values)
    assert caught.value.where == where
    values = TrainConfig().to_json()
    values["matrices"]["pmi"]["window"] = 0
    with pytest.raises(InputError, match=r"pmi_window: out of range"):
        TrainConfig.from_json(values)


def test_a_run_of_an_older_version_also_wrote_down_the_options_of_other_layers() -> None:
    values = read_config({"output-embed": "tied"}).to_json()
    values["model"] |= {"alpha": None, "normalize": True, "walsh_basis": "codes", "output_start": "random"}
    assert TrainConfig.from_json(values) == read_config({"output-embed": "tied"})


def test_options_of_another_layer_are_refused_in_python_as_on_the_command_line() -> None:
    with pytest.raises(InputError, match=r"--alpha: has no effect on this output layer \(found --output-embed tied\)"):
        read_config({"output_embed": "tied", "alpha": 2.0})


def test_a_config_knows_what_it_builds() -> None:
    config = read_config({"output-embed": "walsh", "input-embed": "fixed", "output-start": "word2vec"})
    assert config.methods() == ["pmi", "walsh", "word2vec"]
    assert config.input_matrix() == "pmi"
    assert read_config({"output-embed": "hadamard", "input-embed": "same"}).input_matrix() == "same"
    assert read_config({"output-embed": "tied"}).methods() == []


@pytest.mark.parametrize(("layer", "lr"), [("tied", 0.012), ("learned", 0.012), ("pmi", 0.006), ("walsh", 0.006)])
def test_a_run_that_is_given_no_learning_rate_has_that_of_its_layer(layer: str, lr: float) -> None:
    assert read_config({"output-embed": layer}).optimization.lr == lr
    assert TrainConfig(model=ModelConfig(output_embed=layer)).to_json()["optimization"]["lr"] == lr
    assert read_config({"output-embed": layer, "lr": "0.5"}).optimization.lr == 0.5
    assert read_config({"output-embed": layer, "preset": "awd"}).optimization.lr == 30
