"""Training on vectors that were counted without the fold of each token, against a plain loop over streams."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import interrupt, train
from torch import Tensor

from embeddings.cross_fit import FoldVectors, bfloat16_bits, fold_of_tokens
from fixlm import output
from fixlm.config.read import read_config
from fixlm.config.train_config import TrainConfig
from fixlm.corpus.corpus import load
from fixlm.model.embedding import input_embedding
from fixlm.model.folds import WindowFolds
from fixlm.model.language_model import LanguageModel
from fixlm.runs.folds import new_folds
from fixlm.training.folds import TrainingFolds
from fixlm.training.optimizer import make_optimizer
from fixlm.training.ranks import Ranks
from fixlm.training.windows import Window, in_streams

V, H, T, B, FOLDS, SCALE = 13, 6, 5, 4, 2, 4.0


def vectors() -> Tensor:
    """(K + 1, V, H), the last those of the whole text."""
    return torch.randn(FOLDS + 1, V, H, generator=torch.Generator().manual_seed(1)).bfloat16()


def model(rows: Tensor, weight: Tensor) -> LanguageModel:
    torch.manual_seed(0)
    layer = output.build("pmi", H, V, vectors=rows)
    layer.vectors = rows  # as they are: the layer would scale them to norm 1
    return LanguageModel(input_embedding(V, H, weight), H, layer)


def test_each_token_reads_the_vectors_of_its_fold_at_both_ends() -> None:
    rows = vectors()
    learned = torch.randn(V, H)  # D, once it is trained
    whole = SCALE * rows[-1].float() + learned
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, V, (T + 1, B), generator=generator)
    folds = torch.randint(0, FOLDS, (T + 1, B), generator=generator)
    ours = model(rows[-1].float(), whole)
    window = WindowFolds(folds[:-1], folds[1:], rows, rows, SCALE)
    found, _, _ = ours.regularized_loss(ids[:-1], ids[1:], ours.start_state(B), folds=window)

    total = torch.zeros(())
    for stream in range(B):
        state = ours.start_state(1)
        for t in range(T):
            here, target = folds[t, stream], folds[t + 1, stream]
            plain = model(rows[target].float(), SCALE * rows[here].float() + learned)
            loss, state = plain.loss(
                ids[t : t + 1, stream : stream + 1], ids[t + 1 : t + 2, stream : stream + 1], state
            )
            total = total + loss
    torch.testing.assert_close(found, total / (T * B))
    found.backward()  # into W, which is the gradient of D
    assert ours.input_embedding.weight.grad is not None
    plain_loss, _ = ours.loss(ids[:-1], ids[1:], ours.start_state(B))  # scoring knows no folds
    assert not torch.isclose(plain_loss, found)


def test_an_end_without_folds_is_left_alone() -> None:
    rows = vectors()
    ours = model(rows[-1].float(), rows[-1].float())
    ids, folds = torch.arange(12).view(6, 2), torch.zeros(6, 2, dtype=torch.long)
    plain, _ = ours.loss(ids[:-1], ids[1:], ours.start_state(2))
    found, _, _ = ours.regularized_loss(
        ids[:-1], ids[1:], ours.start_state(2), folds=WindowFolds(folds[:-1], folds[1:])
    )
    assert torch.equal(plain, found)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 10])
def test_a_token_has_one_fold_whatever_the_batch(batch_size: int) -> None:
    tokens, folds = 120, 4
    given = {"output-embed": "pmi", "cross-fit": str(folds), "batch-size": str(batch_size)}
    rows = bfloat16_bits(np.zeros((folds + 1, V, H), dtype=np.float32))
    layer = output.build("learned", H, V)
    held = TrainingFolds({"output": FoldVectors(rows, {})}, read_config(given), tokens, layer, Ranks())
    places = in_streams(np.arange(tokens, dtype=np.int32), batch_size).long()  # where each token stands in the text
    window = held.window(Window(0, 2, 9))
    expected = torch.from_numpy(fold_of_tokens(tokens, folds))
    torch.testing.assert_close(window.inputs, expected[places[2:9]].long())
    torch.testing.assert_close(window.targets, expected[places[3:10]].long())
    assert window.input_rows is None


def test_both_ends_share_the_vectors_where_they_are_the_same(small: list[str]) -> None:
    text = load(small[1])

    def folds(**more: str) -> dict[str, FoldVectors]:
        flags = {"hidden-size": "8", "embed-size": "8", "output-embed": "pmi", "cross-fit": "3"} | more
        return dict(new_folds(read_config(flags), text, lambda *_: None))

    assert folds().keys() == {"output"}
    both = folds(**{"input-start": "pmi"})
    assert both["input"] is both["output"]
    assert folds(**{"input-embed": "fixed"}).keys() == {"input", "output"}
    shorter = folds(**{"input-start": "pmi", "embed-size": "6"})
    assert shorter["input"].rows.shape == (4, 12, 6)
    assert shorter["output"].rows.shape == (4, 12, 8)
    assert folds(**{"input-start": "pmi", "output-embed": "tied"}).keys() == {"input"}
    assert folds(**{"input-start": "pmi", "output-embed": "walsh", "walsh-families": "16"}).keys() == {"input"}
    assert folds(**{"cross-fit": "0"}) == {}


FLAGS = ["--output-embed", "pmi", "--output-dim", "8", "--embed-size", "6", "--input-start", "pmi", "--cross-fit", "3"]


@pytest.mark.slow
def test_a_run_keeps_its_folds_until_it_is_done(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], log: list[str]
) -> None:
    run = tmp_path / "run"
    files = [run / f"{end}_folds.safetensors" for end in ("output", "input")]
    at_step(5, interrupt)
    assert train(*small, *FLAGS, "--run", str(run)) == 130
    assert any("cross-fitting: 3 folds, read at the input and output; their vectors take 0 MB." in line for line in log)
    hashes = json.loads((run / "config.json").read_text())["folds"]
    assert [FoldVectors.load(path).sha256 for path in files] == [hashes["output"], hashes["input"]]
    assert train("--resume", "--run", str(run)) == 0
    assert not any(path.exists() for path in files)
    result = (run / "result.json").read_text()
    (run / "result.json").unlink()
    assert train("--resume", "--run", str(run)) == 0  # only scoring is left to do, which reads none of them
    assert json.loads((run / "result.json").read_text())["test"] == json.loads(result)["test"]


@pytest.mark.slow
def test_folds_that_are_missing_or_another_runs_stop_a_resumed_run(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    path = run / "input_folds.safetensors"
    at_step(5, interrupt)
    assert train(*small, *FLAGS, "--run", str(run)) == 130
    path.write_bytes((run / "output_folds.safetensors").read_bytes())
    assert train("--resume", "--run", str(run)) == 2
    assert f"{path}: not the vectors of this run (found " in capsys.readouterr().err
    path.unlink()
    assert train("--resume", "--run", str(run)) == 2
    assert f"{path}: there is no such file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], "not the configuration of a run (found TypeError('folds are no hashes'))"),
        ({"output": "0"}, "the folds are not those of its flags (found output, expected input, output)"),
    ],
)
def test_a_configuration_with_other_folds_is_refused(
    folds: object, message: str, small: list[str], tmp_path: Path, at_step: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    at_step(5, interrupt)
    assert train(*small, *FLAGS, "--run", str(run)) == 130
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"folds": folds}))
    assert train("--resume", "--run", str(run)) == 2
    assert message in capsys.readouterr().err


def test_a_fold_shorter_than_the_window_is_named_by_its_flag(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--output-embed pmi --output-dim 8 --cross-fit 900"
    assert train(*small, *flags.split(), "--run", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fixlm: error: --cross-fit: a fold of ")
    assert error.endswith("(found 900). Fix: fewer folds, or a longer text")


# --- without the flag -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "folds"),
    [
        ("--output-embed pmi", 8),
        ("--output-embed pmi --input-embed fixed", 8),
        ("--output-embed pmi-signs", 8),
        ("--output-embed cca", 8),
        ("--output-embed pmi --cross-fit 0", 0),
        ("--output-embed pmi --cross-fit 3", 3),
        ("--output-embed word2vec", 0),  # its folds take as long as so many matrices
        ("--output-embed hadamard --input-start pmi", 0),
        ("--output-embed tied --input-start pmi", 0),
        ("--output-embed learned --input-start pmi --output-start pmi", 0),
        ("--output-embed walsh --input-start pmi", 0),
    ],
)
def test_an_output_matrix_of_pmi_has_eight_folds_and_nothing_else_has_any_unasked(flags: str, folds: int) -> None:
    given = dict(zip(*[iter(flags.replace("--", "").split())] * 2, strict=True))
    config = read_config(given)
    assert config.folds == folds
    assert bool(config.cross_fitted()) == bool(folds)
    stored = config.to_json()
    assert stored["model"]["cross_fit"] == folds  # what the directory says, whatever a later default is
    del stored["model"]["cross_fit"]
    assert TrainConfig.from_json(stored).folds == 0  # runs that are older than the flag had none


@pytest.mark.slow
def test_a_text_that_is_too_short_for_folds_that_nobody_asked_for_has_none(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], log: list[str]
) -> None:
    own = "--output-embed pmi --output-dim 4 --pmi-window 500"
    flags = [*small, *own.split(), "--run", str(tmp_path / "run")]
    at_step(5, interrupt)
    assert train(*flags) == 130
    assert any(
        re.fullmatch(
            r"no cross-fitting: a fold of 4\d\d tokens is shorter than the window of 500\. --cross-fit sets the number "
            r"of folds\.",
            line,
        )
        for line in log
    )
    assert json.loads((tmp_path / "run/config.json").read_text())["folds"] == {}
    assert train("--resume", "--run", str(tmp_path / "run")) == 0
    assert train(*flags) == 0  # the same command finds its run
    assert log[-1].endswith("is finished already; this is its result. Another --run trains anew.")


def test_folds_that_would_fill_the_memory_are_made_only_if_asked_for(
    small: list[str], monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setattr("fixlm.runs.folds.LARGEST_DEFAULT", 1000)
    flags = {"hidden-size": "8", "embed-size": "8", "output-embed": "pmi"}
    text = load(small[1])
    assert new_folds(read_config(flags), text, lambda *_: None) == {}
    assert log[-1].startswith("no cross-fitting: the vectors of 8 folds would take 0 MB.")
    assert new_folds(read_config(flags | {"cross-fit": "8"}), text, lambda *_: None).keys() == {"output"}


# --- weight decay -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_decay_shrinks_what_is_learned_at_the_input_and_not_the_vectors(optimizer: str) -> None:
    rows, learned = vectors(), torch.randn(V, H)
    ours = model(rows[-1].float(), SCALE * rows[-1].float() + learned)
    given = {"output-embed": "pmi", "cross-fit": str(FOLDS), "input-start": "pmi", "input-start-scale": str(SCALE)}
    config = read_config(given | {"optimizer": optimizer, "weight-decay": "0.5", "lr": "0.1"})
    bits = rows.view(torch.uint16).numpy()
    held = TrainingFolds({"input": FoldVectors(bits, {})}, config, 120, ours.output, Ranks())
    steps = make_optimizer(ours, config.optimization)
    weight = ours.input_embedding.weight
    weight.grad = torch.zeros_like(weight)
    for _ in range(2):
        steps.step()
        held.spare_start(weight, steps)
    torch.testing.assert_close(weight.detach(), SCALE * rows[-1].float() + (1 - 0.1 * 0.5) ** 2 * learned)
