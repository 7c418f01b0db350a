"""What a crash leaves of a run, numbers that are not finite, and that nothing good is lost by either."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import assert_same_end, final, interrupt, train

from fixlm import cli
from fixlm.runs import checkpoint
from fixlm.training.trainer import Trainer

pytestmark = pytest.mark.slow  # most of these train a model


def test_a_crash_between_a_checkpoint_and_its_links_is_mended(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*small, "--output-embed", "tied", "--run"]
    assert train(*flags, str(tmp_path / "whole")) == 0
    real = checkpoint.point

    def crash(root: Path, link: str, step: int) -> None:
        if step == 12:
            raise KeyboardInterrupt
        real(root, link, step)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "point", crash)
        assert train(*flags, str(tmp_path / "cut")) == 130
    assert os.readlink(tmp_path / "cut/checkpoints/last") == "step-0"
    at_step(13, interrupt)
    assert train("--resume", "--run", str(tmp_path / "cut")) == 130
    assert os.readlink(tmp_path / "cut/checkpoints/best") == "step-12"
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_damaged_best_is_named_and_what_follows_takes_its_place(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    at_step(20, interrupt)
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 130
    (run / "checkpoints/step-12/model.safetensors").write_bytes(b"")
    assert cli.main(["evaluate", str(run)]) == 2  # never scored by another checkpoint than asked for
    assert train("--resume", "--run", str(run)) == 0
    assert capsys.readouterr().err.count("step-12/model.safetensors: damaged (found (0, ") == 2
    assert os.readlink(run / "checkpoints/best") == "step-24"
    assert json.loads((run / "result.json").read_text())["best_step"] == 24


def test_a_damaged_best_of_a_run_at_its_end(small: list[str], tmp_path: Path) -> None:
    """Killed between the last checkpoint and the result; then the best one, which is an earlier one, is damaged."""
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 0
    saved = checkpoint.verify(run / "checkpoints/step-24")
    state = saved.state()
    state["best"] |= {"step": 12}
    checkpoint.save(run / "checkpoints", 24, saved.model(), saved.training(), state, best=False)
    (run / "checkpoints/step-12/model.safetensors").unlink()
    (run / "result.json").unlink()
    assert train("--resume", "--run", str(run)) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["best_step"] == 24
    assert os.readlink(run / "checkpoints/best") == "step-24"


def test_left_over_temporaries_of_a_run_are_swept(
    small: list[str], tmp_path: Path, at_step: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    at_step(5, interrupt)
    assert train(*small, "--output-embed", "hadamard", "--run", str(run)) == 130
    (run / ".metrics.jsonl.77.tmp").write_text("half")
    (run / "checkpoints" / ".step-6.tmp").mkdir()
    assert train("--resume", "--run", str(run)) == 0
    assert not list(run.rglob(".*"))


def test_a_run_killed_before_it_began_is_begun_anew(small: list[str], tmp_path: Path) -> None:
    """What kill -9 leaves while the first files are written: no config.json yet."""
    run = tmp_path / "run"
    assert train(*small, "--output-embed", "random-orthogonal", "--run", str(run)) == 0
    for name in ("config.json", "metrics.jsonl", "status.json", "result.json"):
        (run / name).unlink()
    for path in (run / "checkpoints").iterdir():
        checkpoint.remove(path)
    (run / "checkpoints" / "step-0").mkdir()  # which comes first
    (run / ".config.json.77.tmp").write_text("{")
    assert train(*small, "--output-embed", "tied", "--run", str(run)) == 0
    assert not (run / "output_matrix.safetensors").exists()


@pytest.mark.parametrize("theirs", ["vocabulary.txt", "notes.txt", "checkpoints/step-3/model.safetensors"])
def test_a_directory_with_files_of_the_users_own_is_never_taken(
    theirs: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / theirs
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    assert train(*small, "--output-embed", "tied", "--run", str(tmp_path / "run")) == 2
    assert "run: the directory is not empty. Fix: another --run" in capsys.readouterr().err
    assert path.read_text() == "precious"


# --- numbers that are not finite ---------------------------------------------------------------------------


def test_weights_that_are_not_finite_are_never_saved(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def poison(trainer: Trainer) -> None:
        with torch.no_grad():
            trainer.model.lstm.weight_hh_l1[0, 0] = float("inf")

    run = tmp_path / "run"
    at_step(15, poison)
    flags = [*small, "--output-embed", "hadamard", "--checkpoint-every", "5"]
    assert train(*flags, "--run", str(run)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "fixlm: error: step 15: the weights are not finite (found NaN or infinity in lstm.weight_hh_l1). "
        "Fix: a lower --lr in a new run; the last good checkpoint is kept in "
    )
    assert os.readlink(run / "checkpoints/last") == "step-12"
    assert train("--resume", "--run", str(run)) == 0


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_names_the_rate_and_the_norms(
    what: str, small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def poison(trainer: Trainer) -> None:
        if what == "loss":
            trainer.state[1].fill_(float("nan"))
        else:
            trainer.model.lstm.weight_hh_l0.register_hook(lambda gradient: gradient * float("inf"))

    run = tmp_path / "run"
    at_step(14, poison)
    assert train(*small, "--output-embed", "hadamard", "--run", str(run)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    number = r"[\d.e+-]+"
    loss = "nan" if what == "loss" else number
    assert re.fullmatch(
        rf"fixlm: error: step 15: the loss or its gradient is not finite \(found loss {loss}, gradient norm (nan|inf), "
        rf"norm of the weights {number} at learning rate {number}\)\. Fix: a lower --lr in a new run; the last good "
        rf"checkpoint is kept in {run}/checkpoints",
        line,
    )
    assert os.readlink(run / "checkpoints/last") == "step-12"
    assert all(tensor.isfinite().all() for tensor in final(run).values())
    assert train("--resume", "--run", str(run)) == 0  # the fault was not of the checkpoint


def test_a_validation_that_is_not_finite_stops_the_run(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def poison(trainer: Trainer) -> None:
        with torch.no_grad():
            trainer.model.output.bias.fill_(float("nan"))

    at_step(12, poison)
    assert train(*small, "--output-embed", "hadamard", "--run", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "fixlm: error: valid split: the model's loss is not finite (found nan nats in all)." in error
    assert os.readlink(tmp_path / "run/checkpoints/last") == "step-0"


def test_a_perplexity_that_overflows_is_inf_on_the_screen_and_null_in_the_files(
    small: list[str], tmp_path: Path, at_step: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def spread(trainer: Trainer) -> None:  # certain of one word, wherever it is
        with torch.no_grad():
            trainer.model.output.bias[0] = 1e5

    run = tmp_path / "run"
    for step in (2, 12, 24):
        at_step(step, spread)
    assert train(*small, "--output-embed", "hadamard", "--run", str(run)) == 0
    said = capsys.readouterr()
    assert re.search(r"this run +\S* *inf +\S* *inf", said.out), said.out
    assert "validation perplexity inf" in said.err
    assert re.search("ppl inf", said.err)
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["perplexity"] is None
    assert result["test"]["nll"] > 709
    validations = [json.loads(line).get("validation") for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [each["perplexity"] for each in validations if each] == [None, None]
    assert cli.main(["evaluate", str(run)]) == 0
    assert "test perplexity inf" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["perplexity"] is None
