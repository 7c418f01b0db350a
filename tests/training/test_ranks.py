"""Several processes train the model that one process trains, stop together, and go on in any number."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import assert_same_end, final, interrupt, losses, train

from fixlm import cli
from fixlm.model.dropout import locked_dropout, part_of_batch
from fixlm.training.ranks import Ranks

IN_RANKS = Path(__file__).parents[1] / "support" / "in_ranks.py"
FLAGS = "--hidden-size 16 --embed-size 16 --batch-size 4 --bptt 10 --max-steps 50 --validate-every 20 --threads 1"
LAYERS = {
    "learned": "--output-embed learned",
    "tied": "--output-embed tied",
    "pmi": "--output-embed pmi --output-dim 8 --input-embed fixed",
    "hadamard": "--output-embed hadamard",
    "walsh": "--output-embed walsh --walsh-families 16 --walsh-pmi-dim 4",
}
FEWER = "--max-steps 22 --validate-every 5"
OTHERS = {
    "folds": f"--output-embed pmi --output-dim 8 --embed-size 8 --input-start pmi --cross-fit 4 {FEWER}",
    "awd": f"--output-embed tied --average nt-asgd --nonmono 1 --vary-bptt --ar 2 --tar 1 --weight-drop 0.3 {FEWER}",
    "rare": f"--output-embed adaptive --adaptive-cutoffs 3,8 --adaptive-divisor 2 --dropout-embedding 0.2 {FEWER}",
}


def tasks(folder: Path, corpus: Path) -> dict[str, dict[str, object]]:
    def task(flags: str, run: str, ranks: int = 2, **more: object) -> dict[str, object]:
        return {"ranks": ranks, "arguments": ["train", *flags.split(), "--run", str(folder / run)], **more}

    flags = f"--data {corpus} {FLAGS}"
    found = {name: task(f"{flags} {layer}", f"{name}-2") for name, layer in (LAYERS | OTHERS).items()}
    found["stopped"] = task(f"{flags} {LAYERS['tied']}", "stopped", interrupt=[1, 7, "SIGINT"])
    found["resumed"] = task("--resume", "stopped")
    found["terminated"] = task(f"{flags} {LAYERS['hadamard']}", "terminated", interrupt=[1, 9, "SIGTERM"])
    found["three more"] = task("--resume", "from-one", ranks=4, interrupt=[3, 30, "SIGINT"])
    found["tuned"] = task(f"{flags} {LAYERS['tied']} --max-steps 3 --fine-tune {folder / 'tied-2'}", "tuned")
    found["failed"] = task(f"--data {corpus}RANK {FLAGS}", "failed")
    found["other text"] = task(f"--data {corpus}-of-rank-RANK {FLAGS}", "failed")
    found["again"] = found["hadamard"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


Told = dict[str, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def told(folder: Path, tiny_corpus: Path) -> Told:
    """What became of all tasks: the status and the standard error of each rank."""
    flags = ["--data", str(tiny_corpus), *FLAGS.split()]
    with pytest.MonkeyPatch.context() as patch:
        from fixlm.training import trainer

        patch.setattr(trainer, "METRICS_EVERY", 1)  # the loss of each step, as in the ranks
        for name, layer in (LAYERS | OTHERS).items():
            assert train(*flags, *layer.split(), "--run", str(folder / f"{name}-1")) == 0
        one = [*flags, *LAYERS["walsh"].split(), "--run", str(folder / "from-one")]
        step = trainer.Trainer._step
        patch.setattr(trainer.Trainer, "_step", lambda self: (step(self), self.at.step == 13 and interrupt(self)))
        assert train(*one) == 130
    (tiny_corpus.parent / f"{tiny_corpus.name}-of-rank-0").symlink_to(tiny_corpus)
    asked = tasks(folder, tiny_corpus)
    (folder / "tasks.json").write_text(json.dumps(list(asked.values())))
    command = [sys.executable, str(IN_RANKS), str(folder / "tasks.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(asked, json.loads(done.stdout), strict=True))


def assert_close(one: Path, other: Path) -> None:
    """Losses and validations are equal to 1e-5, and there are as many of them."""
    ours, theirs = losses(one), losses(other)
    assert [step for step, *_ in ours] == [step for step, *_ in theirs]
    for (_, loss, valid), (_, other_loss, other_valid) in zip(ours, theirs, strict=True):
        assert loss == (None if other_loss is None else pytest.approx(other_loss, abs=1e-5))
        if loss is None:
            assert json.loads(str(valid)) == pytest.approx(json.loads(str(other_valid)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_two_ranks_train_what_one_process_trains(name: str, folder: Path, told: Told) -> None:
    """With dropout: the masks are those of the whole batch."""
    assert [status for status, _ in told[name]] == [0, 0]
    assert_close(folder / f"{name}-1", folder / f"{name}-2")
    trained = [step for step, loss, _ in losses(folder / f"{name}-2") if loss is not None]
    assert trained == [*range(1, (50 if name in LAYERS else 22) + 1)]
    one, two = final(folder / f"{name}-1"), final(folder / f"{name}-2")
    assert one.keys() == two.keys()
    for tensor in one:  # where a gradient is nearly 0, Adam's step has the sign that rounding gave it
        torch.testing.assert_close(one[tensor], two[tensor], atol=5e-3, rtol=0)
    result = json.loads((folder / f"{name}-2" / "result.json").read_text())
    assert result["ranks"] == 2


@pytest.mark.slow
def test_only_rank_0_speaks_and_writes(folder: Path, told: Told) -> None:
    (_, first), (_, second) = told["tied"]
    assert "2 processes" in first
    assert "perplexity" in first
    assert second == ""
    files = [sorted(path.name for path in (folder / f"tied-{ranks}").rglob("*")) for ranks in (1, 2)]
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on_bit_for_bit(folder: Path, told: Told) -> None:
    assert [status for status, _ in told["stopped"]] == [130, 130]
    assert "stopped after step 7 and saved" in told["stopped"][0][1]
    assert [status for status, _ in told["resumed"]] == [0, 0]
    assert_same_end(folder / "tied-2", folder / "stopped")


@pytest.mark.slow
def test_sigterm_to_one_rank_stops_all(folder: Path, told: Told) -> None:
    assert [status for status, _ in told["terminated"]] == [143, 143]
    assert "stopped after step 9 and saved" in told["terminated"][0][1]
    assert os.readlink(folder / "terminated/checkpoints/last") == "step-9"


@pytest.mark.slow
def test_a_signal_to_torchrun_stops_all(tmp_path: Path, tiny_corpus: Path) -> None:
    """torchrun passes it on when it looks, so that the step is not known beforehand."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--"]
    flags = f"--data {tiny_corpus} {FLAGS} {LAYERS['tied']} --max-steps 20000 --run {tmp_path / 'run'}"
    program = [str(IN_RANKS.with_name("stop_torchrun.py")), "5", *flags.split()]
    done = subprocess.run([*torchrun, *program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    (line,) = re.findall(r"stopped after step (\d+) and saved", done.stderr)
    assert int(line) >= 5
    assert done.stdout.count("the process group is gone") == 2
    assert os.readlink(tmp_path / "run/checkpoints/last") == f"step-{line}"


@pytest.mark.slow
def test_any_number_of_ranks_goes_on_from_a_checkpoint(
    folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process to step 13, four to step 30, one to the end."""
    monkeypatch.setattr("fixlm.training.trainer.METRICS_EVERY", 1)
    assert [status for status, _ in told["three more"]] == [130] * 4
    assert os.readlink(folder / "from-one/checkpoints/last") == "step-30"
    assert train("--resume", "--run", str(folder / "from-one")) == 0
    assert_close(folder / "walsh-1", folder / "from-one")


@pytest.mark.slow
def test_ranks_start_from_the_weights_of_another_run(folder: Path, told: Told) -> None:
    assert [status for status, _ in told["tuned"]] == [0, 0]
    step, _, validation = losses(folder / "tuned")[0]
    best = json.loads((folder / "tied-2" / "result.json").read_text())["valid"]
    assert (step, json.loads(str(validation))) == (0, best)


@pytest.mark.slow
def test_an_error_is_told_once(folder: Path, told: Told) -> None:
    (status, first), second = told["failed"]
    assert status == 2
    assert first.count("error: --data") == 1
    assert second == [2, ""]
    (status, first), second = told["other text"]
    assert status == 2
    assert "error: rank 1: --data" in first
    assert second == [2, ""]
    assert not (folder / "failed").exists()


@pytest.mark.slow
def test_a_finished_run_is_opened(told: Told) -> None:
    assert [status for status, _ in told["again"]] == [0, 0]
    assert "is finished already" in told["again"][0][1]


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def be(rank: int) -> None:
        for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "3"), ("RANK", rank), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, str(value))

    return be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--batch-size", "40"], "--batch-size: the ranks cannot have equal parts of it (found 40"),
        (["train", "--batch-size", "6", "--device", "mps"], "--device: several ranks cannot share it (found mps"),
        (["compare", "runs/x", "--seed", "1,2"], "fixlm.compare: starts its runs by itself (found 3 pro"),
    ],
)  # fmt: skip
def test_what_several_ranks_cannot_do_is_one_line_of_rank_0(
    arguments: list[str], message: str, as_rank: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    as_rank(0)
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fixlm: error: {message}")
    as_rank(1)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == ""


def test_parts_of_a_batch_have_the_masks_of_the_whole() -> None:
    x = torch.ones(5, 6, 7)
    torch.manual_seed(3)
    whole = locked_dropout(x, 0.5, training=True)
    after = torch.get_rng_state()
    for part in range(3):
        torch.manual_seed(3)
        with part_of_batch(part, 3):
            mine = locked_dropout(Ranks(part, 3).part(x), 0.5, training=True)
        assert torch.equal(mine, whole[:, 2 * part : 2 * part + 2])
        assert torch.equal(torch.get_rng_state(), after)
