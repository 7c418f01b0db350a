"""walsh behind a learned map to fewer numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import assert_same_end, interrupt, train
from torch import Tensor

from fixlm import cli
from fixlm.errors import InputError
from fixlm.output.walsh import WalshOutput
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model

pytestmark = pytest.mark.slow  # the kernels are compiled for each type and each switch

SIZE, RANK, WORDS = 12, 5, 75


def layer(head: Tensor | None, size: int = SIZE, rank: int | None = RANK) -> WalshOutput:
    torch.manual_seed(3)
    slots = torch.randperm(80)[:WORDS]
    return WalshOutput(size, WORDS, families=16, slots=slots, head_words=head, rank=rank).double()


@pytest.mark.parametrize("head", [None, torch.tensor([40, 3, 17])])
def test_the_layer_is_one_without_a_map_that_reads_what_the_map_gives(head: Tensor | None) -> None:
    low, plain = layer(head), layer(head, RANK, None)
    assert low.map is not None
    with torch.no_grad():
        for parameter in low.parameters():
            parameter.normal_()
    plain.load_state_dict({name: value for name, value in low.state_dict().items() if name != "map.weight"})
    hidden = torch.randn(9, SIZE, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(WORDS, (9,))
    mapped = hidden @ low.map.weight.t()
    for name in ("logits", "loss", "nll"):
        given = () if name == "logits" else (targets,)
        torch.testing.assert_close(getattr(low, name)(hidden, *given), getattr(plain, name)(mapped, *given))
    for ours, theirs in zip(low.top_k(hidden, 4), plain.top_k(mapped, 4), strict=True):
        torch.testing.assert_close(ours, theirs)
    ours = torch.autograd.grad(low.loss(hidden, targets), [hidden, low.weight, low.map.weight])
    theirs = torch.autograd.grad(plain.loss(mapped, targets), [hidden, plain.weight, low.map.weight])
    torch.testing.assert_close(ours, theirs)


def test_the_logits_have_so_many_dimensions() -> None:
    logits = layer(None).logits(torch.randn(60, SIZE, dtype=torch.float64))
    assert torch.linalg.matrix_rank(logits) == RANK


def test_a_run_trains_is_resumed_and_loads(small: list[str], tmp_path: Path, at_step: Callable[..., None]) -> None:
    whole = RunDirectory(tmp_path / "whole")
    flags = "--output-embed walsh --walsh-families 16 --walsh-pmi-dim 4 --walsh-rank 4 --output-start pmi --lr 0.03"
    flags += " --learned-words 3 --max-steps 40"
    assert train(*small, *flags.split(), "--run", str(whole.path)) == 0
    result = json.loads(whole.result.read_text())
    assert result["valid"]["perplexity"] < 0.9 * result["unigram"]["valid"]["perplexity"]
    output = load_model(whole).output
    shapes = {name: tuple(each.shape) for name, each in output.named_parameters()}
    assert (shapes["weight"], shapes["map.weight"], shapes["head"]) == ((32, 4), (4, 16), (3, 4))
    at_step(7, interrupt)
    assert train(*small, *flags.split(), "--run", str(tmp_path / "cut")) == 130
    assert train("--resume", "--run", str(tmp_path / "cut")) == 0
    assert_same_end(whole.path, tmp_path / "cut")


def test_tied_families_are_as_long_as_an_input_vector(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output-embed", "walsh", "--walsh-families", "16", "--walsh-pmi-dim", "4", "--walsh-tied"]
    assert cli.main(["train", *small, *flags, "--walsh-rank", "4"]) == 2
    assert "which needs --embed-size 4 (found 16)" in capsys.readouterr().err
    flags += ["--walsh-rank", "4", "--embed-size", "4", "--max-steps", "3", "--run", str(tmp_path / "run")]
    assert cli.main(["train", *small, *flags]) == 0


def test_a_rank_that_is_none_is_refused(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"rank: not a possible number \(found 0"):
        layer(None, SIZE, 0)
    assert cli.main(["train", *small, "--output-embed", "walsh", "--walsh-rank", "0"]) == 2
    assert "--walsh-rank: out of range (found 0" in capsys.readouterr().err
    assert cli.main(["train", *small, "--output-embed", "walsh", "--walsh-rank", "16"]) == 2
    told = "--walsh-rank: a map to so many numbers saves nothing (found 16, expected less than 16)"
    assert told in capsys.readouterr().err


def test_logits_start_as_large_as_without_a_map() -> None:
    hidden = torch.randn(200, 64, dtype=torch.float64)
    low, plain = (layer(None, 64, rank).logits(hidden).std().item() for rank in (32, None))
    assert low == pytest.approx(plain, rel=0.15)


def test_vectors_of_another_length_are_refused_as_a_start() -> None:
    with pytest.raises(InputError, match=r"vectors: not one for each word \(found \(75, 12\), expected \(75, 5\)\)"):
        layer(None).start_at(torch.randn(WORDS, SIZE))
