"""Training from the command line's point of view: run directories, resuming, determinism, refusals."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import final, same, train
from safetensors.torch import load_file

from embeddings.output_matrix import OutputMatrix, hash_vectors
from fixlm.config.read import read_config
from fixlm.config.schema import DataConfig
from fixlm.corpus import corpus
from fixlm.corpus.corpus import load
from fixlm.errors import InputError
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model
from fixlm.runs.new_model import build_matrix, new_model
from fixlm.training import fit
from fixlm.training.optimizer import learning_rate, make_optimizer
from fixlm.training.trainer import Trainer

pytestmark = pytest.mark.slow  # most of these train a model

LAYERS = ("learned", "tied", "random-orthogonal", "hadamard", "sylvester", "word2vec", "pmi")


@pytest.mark.parametrize("layer", LAYERS)
def test_every_output_layer_learns(layer: str, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ["--word2vec-epochs", "1"] if layer == "word2vec" else []
    more += [] if layer in ("learned", "tied") else ["--output-dim", "8", "--alpha-start", "4"]
    flags = f"--output-embed {layer} --max-steps 60 --lr 0.02 --run {run}"
    assert train(*small, *flags.split(), *more) == 0
    result = json.loads((run / "result.json").read_text())
    # sylvester gives some words the same vector at N = 8 < V; even it has the bias to beat the unigram model with.
    assert result["test"]["perplexity"] < 0.9 * result["unigram"]["test"]["perplexity"]
    # hadamard keeps the signs of two blocks of 8 words, no matrix
    stored = {"learned": 0, "tied": 0, "hadamard": 2 * 8}
    assert result["parameters"]["fixed"] == stored.get(layer, 12 * 8)


def test_a_run_leaves_the_files_that_are_documented(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "random-orthogonal", "--run", str(run)) == 0
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "config.json", "metrics.jsonl", "output_matrix.safetensors", "result.json", "status.json",
        "vocabulary.txt",
    ]  # fmt: skip
    assert os.readlink(run / "checkpoints" / "last") == "step-24"
    assert os.readlink(run / "checkpoints" / "best") in ("step-12", "step-24")
    assert sorted(path.name for path in (run / "checkpoints" / "last").iterdir()) == [
        "manifest.json", "model.safetensors", "state.json", "training.safetensors",
    ]  # fmt: skip
    assert set(final(run)) == {
        "input_embedding.weight",
        *(f"lstm.{kind}_{side}_l{layer}" for kind in ("weight", "bias") for side in ("ih", "hh") for layer in (0, 1)),
        "output.bias",
        "output.alpha",
    }
    words = (run / "vocabulary.txt").read_text().split("\n")
    assert words[0] == "the"
    assert len(words) == 12 + 1  # a newline behind the last
    config = json.loads((run / "config.json").read_text())
    assert config["corpus"]["vocabulary_size"] == 12
    assert config["output_matrix"]["sha256"] == OutputMatrix.load(run / "output_matrix.safetensors").sha256
    assert config["optimization"]["seed"] == 1
    assert "torch" in config["versions"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "epoch", "loss", "lr", "alpha", "gradient_norm", "tokens_per_second"} == set(records[0])
    assert [record["step"] for record in records if "validation" in record] == [12, 24]
    result = json.loads((run / "result.json").read_text())
    assert set(result["valid"]) == {"perplexity", "nll", "targets"}
    assert result["test"]["targets"] == config["corpus"]["tokens"]["test"] - 1


def test_the_output_matrix_is_the_same_after_training_and_in_no_optimizer(small: list[str], tmp_path: Path) -> None:
    given = read_config(
        {"data": small[1], "output-embed": "random-orthogonal", "hidden-size": "16", "embed-size": "16"}
    )
    text = load(small[1])
    model, matrix = new_model(given, text)
    assert matrix is not None
    before = hash_vectors(model.output.vectors.numpy())
    optimizer = make_optimizer(model, given.optimization)
    held = {parameter.data_ptr() for group in optimizer.param_groups for parameter in group["params"]}
    assert model.output.vectors.data_ptr() not in held
    assert len(held) == sum(parameter.requires_grad for parameter in model.parameters())
    ids = torch.from_numpy(text.splits["train"][:40].astype("int64")).view(20, 2)
    for _ in range(3):
        loss, _ = model.loss(ids[:-1], ids[1:], model.start_state(2))
        loss.backward()
        optimizer.step()
    assert hash_vectors(model.output.vectors.numpy()) == before == matrix.sha256


@pytest.mark.parametrize("input_embed", ["fixed", "same", "random-orthogonal"])
def test_input_embeddings_from_a_matrix(input_embed: str, small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "hadamard", "--input-embed", input_embed, "--run", str(run)) == 0
    vectors = load_file(run / "output_matrix.safetensors")["vectors"]
    trained = final(run)["input_embedding.weight"]
    assert torch.equal(vectors, trained) == (input_embed == "fixed")
    if input_embed == "random-orthogonal":  # frozen: unit rows still
        torch.testing.assert_close(trained.norm(dim=1), torch.ones(12))
    load_model(RunDirectory(run))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(small: list[str], tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        flags = f"--output-embed pmi --output-dim 6 --seed {seed} --run {tmp_path / name}"
        assert train(*small, *flags.split()) == 0
    assert same(final(tmp_path / "a"), final(tmp_path / "b"))
    assert not same(final(tmp_path / "a"), final(tmp_path / "c"))
    matrices = [(tmp_path / name / "output_matrix.safetensors").read_bytes() for name in "abc"]
    assert matrices[0] == matrices[1] == matrices[2]  # the matrix has a seed of its own


@pytest.mark.parametrize("layer", ["tied", "hadamard"])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(
    layer: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    assert train(*small, "--output-embed", layer, "--run", whole) == 0
    step = Trainer._step
    signals = {7: signal.SIGINT, 17: signal.SIGTERM}

    def step_and_signal(trainer: Trainer) -> None:
        step(trainer)
        if trainer.at.step in signals:
            os.kill(os.getpid(), signals.pop(trainer.at.step))

    monkeypatch.setattr(Trainer, "_step", step_and_signal)
    assert train(*small, "--output-embed", layer, "--run", cut) == 130
    assert "stopped after step 7 and saved; --resume goes on from here" in capsys.readouterr().err
    assert train("--resume", "--run", cut) == 143
    assert train("--resume", "--run", cut) == 0
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    ours, theirs = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("cut", "whole"))
    assert ours["valid"] == theirs["valid"]
    assert ours["test"] == theirs["test"]

    def losses(run: str) -> list[tuple[object, ...]]:
        records = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
        return [(record["step"], record.get("loss")) for record in records]

    assert losses(cut) == losses(whole)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 0
    before = final(run)
    (run / "result.json").unlink()
    damaged = run / "checkpoints" / "step-24" / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1  # one bit, which safetensors itself does not notice
    damaged.write_bytes(content)
    assert train("--resume", "--run", str(run)) == 0
    error = capsys.readouterr().err
    assert "step-24/model.safetensors: damaged" in error
    assert "going on from step-12 of 24" in error
    assert same(final(run), before)


def test_a_finished_run_is_reported_and_not_trained_again(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*small, "--output-embed", "tied", "--run", str(tmp_path / "run")]
    assert train(*arguments) == 0
    first = capsys.readouterr().out
    written = (tmp_path / "run" / "checkpoints" / "last" / "state.json").stat().st_mtime_ns
    assert train(*arguments) == 0
    again = capsys.readouterr()
    assert again.out == first
    assert "is finished already" in again.err
    assert (tmp_path / "run" / "checkpoints" / "last" / "state.json").stat().st_mtime_ns == written


def test_a_run_that_its_validations_ended_is_another_one_with_others(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*small, "--output-embed", "tied", "--patience", "1", "--run", str(tmp_path / "run")]
    assert train(*arguments) == 0
    assert train(*arguments, "--validate-every", "6") == 2
    assert "the directory is not empty" in capsys.readouterr().err
    assert train("--run", str(tmp_path / "run"), "--resume", "--validate-every", "6") == 2
    assert "--validate-every: differs from the run to resume (found 6, expected 12)" in capsys.readouterr().err


def test_a_finished_run_whose_links_were_lost_gets_them_back(small: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert train(*small, "--output-embed", "tied", "--run", str(run.path)) == 0
    best = os.readlink(run.checkpoints / "best")
    for link in ("best", "last"):
        (run.checkpoints / link).unlink()
    with pytest.raises(InputError, match=r"has no checkpoint 'best'.*--resume it"):
        load_model(run)
    assert train("--run", str(run.path), "--resume") == 0
    assert os.readlink(run.checkpoints / "best") == best
    load_model(run)


def test_auto_means_the_text_that_a_run_began_with(small: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert train(*small, "--output-embed", "tied", "--run", str(run.path)) == 0
    name = run.read_config()["corpus"]["name"]
    assert run.source_of_text(DataConfig("auto")).data == name
    assert run.source_of_text(DataConfig("sample")).data == "sample"


def test_a_finished_run_is_reported_though_its_text_has_moved(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--output-embed", "tied", "--run", str(tmp_path / "run")]
    assert train(*small, *arguments) == 0
    written = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    shutil.copytree(small[1], tmp_path / "moved")
    assert train(*arguments, "--resume", "--data", str(tmp_path / "moved")) == 0
    assert "is finished already" in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == written


def test_an_error_while_training_is_not_one_of_the_run_directory(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", "train.txt")

    monkeypatch.setattr(corpus, "load", fails)
    with pytest.raises(OSError, match=r"train\.txt"):
        fit.train(read_config({"output-embed": "tied", "data": small[1], "run": str(tmp_path / "r")}))
    assert not (tmp_path / "r").exists()


def test_vectors_in_a_file_with_a_bare_name_are_a_path_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glove").write_text("the 1 2 3\nof 3 2 1\n")
    (tmp_path / "pmi").write_text("a method of this name goes before it")
    monkeypatch.chdir(tmp_path)
    assert read_config({"output-embed": "glove"}).model.output_embed == "./glove"
    assert read_config({"output-embed": "pmi"}).model.output_embed == "pmi"


def test_the_default_run_directory_has_the_name_of_data_layer_size_and_seed(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(*small, "--output-embed", "hadamard", "--seed", "3") == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [f"{Path(small[1]).name}-hadamard-16-seed3"]


def test_the_fixed_alpha_of_the_ablation_stays_where_it_is(small: list[str], tmp_path: Path) -> None:
    assert train(*small, "--output-embed", "hadamard", "--alpha", "0.1", "--run", str(tmp_path / "run")) == 0
    assert final(tmp_path / "run")["output.alpha"].item() == pytest.approx(0.1)


def test_alpha_decays_like_a_matrix_unless_told_otherwise(small: list[str]) -> None:
    for flags, expected in (({}, 0.3), ({"alpha-weight-decay": "0"}, 0.0)):
        given = {"data": small[1], "output-embed": "hadamard", "weight-decay": "0.3", **flags}
        config = read_config(given)
        model, _ = new_model(config, load(small[1]))
        decays = {
            parameter.data_ptr(): group["weight_decay"]
            for group in make_optimizer(model, config.optimization).param_groups
            for parameter in group["params"]
        }
        assert decays[model.output.alpha.data_ptr()] == expected
        assert decays[model.lstm.weight_hh_l0.data_ptr()] == 0.3
        assert decays[model.output.bias.data_ptr()] == 0.0


@pytest.mark.parametrize(("layer", "name"), [("walsh", "weight"), ("learned", "weight"), ("pmi", "projection.weight")])
def test_the_output_layers_matrices_may_have_a_learning_rate_of_their_own(
    layer: str, name: str, small: list[str], tmp_path: Path
) -> None:
    flags = [*small, "--output-embed", layer, "--max-steps", "1", "--warmup-steps", "0", "--weight-decay", "0"]
    flags += {"walsh": ["--walsh-families", "16"], "pmi": ["--output-dim", "8"]}.get(layer, [])
    moved = {}
    for part in ("0.25", "1"):
        run = tmp_path / part
        assert train(*flags, "--lr", "0.01", "--output-lr", part, "--run", str(run)) == 0
        before = load_file(run / "checkpoints" / "step-0" / "model.safetensors")
        moved[part] = {key: (value - before[key]).abs().max().item() for key, value in final(run).items()}
    # The first step of Adam is the learning rate itself wherever there is a gradient.
    assert moved["0.25"][f"output.{name}"] == pytest.approx(0.0025, rel=1e-3)
    assert moved["1"][f"output.{name}"] == pytest.approx(0.01, rel=1e-3)
    assert moved["0.25"]["lstm.weight_hh_l0"] == pytest.approx(0.01, rel=1e-3)
    assert moved["0.25"]["output.bias"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("flags", [["--output-embed", "learned"], ["--output-embed", "walsh"]])
def test_a_learned_output_matrix_can_start_at_vectors(
    flags: list[str], small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"data": small[1], "output-embed": flags[1], "output-start": "pmi", "hidden-size": "8"}
    given |= {"walsh-families": "16", "walsh-pmi-dim": "8"} if flags[1] == "walsh" else {}
    config, text = read_config(given), load(small[1])
    model, _ = new_model(config, text)
    rows = torch.from_numpy(build_matrix("pmi", 8, config, text).vectors)
    hidden = torch.randn(3, 8)
    found = model.output.logits(hidden) - model.output.bias
    torch.testing.assert_close(found[:, :16], hidden @ rows[:16].t(), atol=1e-5, rtol=1e-4)
    longer, _ = new_model(read_config({**given, "output-start-scale": "4"}), text)
    torch.testing.assert_close(longer.output.logits(hidden) - longer.output.bias, 4 * found, atol=1e-5, rtol=1e-4)
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 1 2 3\nof 3 2 1\n")
    assert train(*small, *flags, "--output-start", str(vectors), "--run", str(tmp_path / "run")) == 2
    expected = "--output-start: its rows are not as long as the last recurrent layer is wide (found 3, expected"
    assert expected in capsys.readouterr().err


def test_the_learning_rate_warms_up_and_ends_at_its_last_part() -> None:
    config = read_config({"output-embed": "tied"}).optimization
    rates = [learning_rate(step, 1000, config) for step in range(1000)]
    assert rates[0] == pytest.approx(config.lr / 100)
    assert rates[99] == rates[100] == config.lr == max(rates)
    assert rates[-1] == pytest.approx(0.02 * config.lr)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert max(learning_rate(step, 8, config) for step in range(8)) == config.lr  # short runs warm up too


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    step = Trainer._step

    def poisoned(trainer: Trainer) -> None:
        if trainer.at.step == 14:
            with torch.no_grad():
                trainer.model.lstm.weight_ih_l0.fill_(float("nan"))
        step(trainer)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    assert train(*small, "--output-embed", "hadamard", "--run", str(run)) == 2
    error = capsys.readouterr().err
    assert "step 15: the loss or its gradient is not finite (found loss nan" in error
    assert all(tensor.isfinite().all() for tensor in final(run).values())


@pytest.mark.parametrize("layer", ["tied", "learned", "hadamard"])
def test_a_learned_input_embedding_can_start_at_a_matrix(layer: str, small: list[str], tmp_path: Path) -> None:
    flags = {"data": small[1], "output-embed": layer, "input-start": "pmi", "hidden-size": "8", "embed-size": "8"}
    config = read_config(flags)
    text = load(small[1])
    model, _ = new_model(config, text)
    start = build_matrix("pmi", 8, config, text).vectors
    assert torch.equal(model.input_embedding.weight, torch.from_numpy(start))
    assert model.input_embedding.weight.requires_grad
    scaled, _ = new_model(read_config({**flags, "input-start-scale": "3"}), text)
    assert torch.equal(scaled.input_embedding.weight, 3 * torch.from_numpy(start))
    run = tmp_path / "run"
    arguments = [*small, "--output-embed", layer, "--input-start", "pmi", "--embed-size", "8", "--run", str(run)]
    assert train(*arguments) == 0
    trained = final(run)["input_embedding.weight"]
    assert trained.shape == start.shape
    assert not torch.equal(trained, torch.from_numpy(start))
