"""walsh with trained rows for some words, against plain logits and torch's own cross-entropy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixlm import cli, output
from fixlm.config.train_config import TrainConfig
from fixlm.corpus import corpus
from fixlm.errors import InputError
from fixlm.evaluation.perplexity import evaluate
from fixlm.output.kernels import projected_cross_entropy as projected
from fixlm.output.kernels.block_hadamard import AddedLogits, cross_entropy_by_kernel, cross_entropy_by_torch
from fixlm.output.replace_head import replace_head
from fixlm.output.walsh import WalshOutput
from fixlm.runs.directory import RunDirectory
from fixlm.runs.load_model import load_model

pytestmark = pytest.mark.slow  # the kernels are compiled for each type and each switch

SIZE, WORDS = 6, 75


def layer(rows: list[int] | None, **options: Any) -> WalshOutput:
    """Of 75 words, strewn over 5 blocks of 16 families, with trained rows that are not zero any more."""
    torch.manual_seed(3)
    head = None if rows is None else torch.tensor(rows)
    found = WalshOutput(SIZE, WORDS, families=16, slots=torch.randperm(80)[:WORDS], head_words=head, **options)
    with torch.no_grad():
        found.bias.normal_()
        if found.head is not None:
            found.head.normal_()
    return found


def data(tokens: int = 37) -> tuple[Tensor, Tensor]:
    torch.manual_seed(4)
    return torch.randn(tokens, SIZE, requires_grad=True), torch.randint(WORDS, (tokens,))


def gradients(loss: Tensor, hidden: Tensor, of: WalshOutput) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [hidden, *of.parameters()]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_the_kernel_is_the_reference(dtype: torch.dtype, both: bool, wanted: bool) -> None:
    torch.manual_seed(1)
    signs = torch.randint(2, (3, 16), dtype=dtype) * 2 - 1
    features, bias = torch.randn(21, 32 if both else 16, dtype=dtype), torch.randn(48, dtype=dtype)
    slots, of_rows = torch.randint(48, (21,)), torch.tensor([40, 3, 17, 16, 47])
    logits = F.pad(5 * torch.randn(5, 21, dtype=dtype), (0, 3))
    found = []
    for implementation in (cross_entropy_by_kernel, cross_entropy_by_torch):
        own, place = logits.clone(), torch.zeros_like(features) if wanted else None
        nll, grad_bias = implementation(features, signs, bias, slots, 1.0, place, AddedLogits(own, of_rows))
        found.append([nll, own[:, :21], *([grad_bias, place] if wanted else [])])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_a_row_that_takes_back_the_largest_logit_leaves_the_others_exact() -> None:
    torch.manual_seed(1)
    features, signs, bias = torch.randn(9, 32), torch.ones(3, 16), torch.randn(48)
    bias[5], bias[40] = 1000, 1000
    logits = F.pad(torch.full((2, 9), -1000.0), (0, 7))
    slots, given = torch.randint(48, (9,)), (features, signs, bias)
    found = []
    for implementation in (cross_entropy_by_kernel, cross_entropy_by_torch):
        own, place = logits.clone(), torch.zeros_like(features)
        added = AddedLogits(own, torch.tensor([40, 5]))
        found.append((implementation(*given, slots, 1.0, place, added)[0], own[:, :9], place))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"halves": "shared"}, {"halves": "own"}, {"basis": "codes"}, {"tied": True}])
@pytest.mark.parametrize("rows", [[0], [7, 2, 74], list(range(WORDS))])
def test_loss_and_gradients_are_those_of_the_logits(rows: list[int], options: dict[str, Any]) -> None:
    head, (hidden, targets) = layer(rows, **options), data()
    plain = F.cross_entropy(head(hidden), targets)
    loss = head.loss(hidden, targets)
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-5)
    for fast, slow in zip(gradients(loss, hidden, head), gradients(plain, hidden, head), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)
    nll = F.cross_entropy(head(hidden), targets, reduction="none")
    torch.testing.assert_close(head.nll(hidden, targets), nll.detach(), rtol=1e-4, atol=1e-5)


def test_a_logit_is_that_of_the_code_and_the_product_with_the_row() -> None:
    rows = [7, 2, 74]
    head, without, (hidden, _) = layer(rows), layer(None), data()
    assert head.head is not None
    without.load_state_dict(head.state_dict(), strict=False)
    expected = without(hidden)
    expected[:, rows] += hidden @ head.head.t()
    torch.testing.assert_close(head(hidden), expected)
    values, ids = head.top_k(hidden, 3)
    torch.testing.assert_close((values, ids), tuple(head(hidden).detach().topk(3)))


@pytest.mark.parametrize("tile", [1, 700])
def test_tiles_change_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head, (hidden, targets) = layer([7, 2, 74]), data(61)
    whole = [head.loss(hidden, targets), head.nll(hidden, targets)]
    whole += gradients(whole[0], hidden, head)
    monkeypatch.setattr(projected, "ROW_BYTES", tile)
    parts = [head.loss(hidden, targets), head.nll(hidden, targets)]
    parts += gradients(parts[0], hidden, head)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_products_in_bfloat16_are_near() -> None:
    exact, low, (hidden, targets) = layer([7, 2, 74]), layer([7, 2, 74], precision=torch.bfloat16), data()
    losses = [each.loss(hidden, targets) for each in (exact, low)]
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-2, atol=2e-2)
    for one, other in zip(
        *(gradients(loss, hidden, exact if loss is losses[0] else low) for loss in losses), strict=True
    ):
        torch.testing.assert_close(other, one, rtol=5e-2, atol=2e-2)


def test_rows_start_at_nothing_and_are_those_of_the_most_frequent_words() -> None:
    by_frequency = torch.arange(WORDS).flip(0)
    torch.manual_seed(5)
    without = output.build("walsh", SIZE, WORDS, families=16)
    torch.manual_seed(5)
    rows = output.build("walsh", SIZE, WORDS, families=16, learned_words=4, by_frequency=by_frequency)
    assert isinstance(rows, WalshOutput)
    assert rows.head_words.tolist() == [74, 73, 72, 71]
    hidden, _ = data()
    torch.testing.assert_close(rows(hidden), without(hidden))


def test_a_state_of_other_words_is_refused() -> None:
    state = layer([7, 2]).state_dict() | {"head_words": torch.tensor([7, 99])}
    with pytest.raises(RuntimeError, match="head_words"):
        layer([1, 2]).load_state_dict(state)


def test_more_rows_than_words_are_an_error() -> None:
    with pytest.raises(InputError, match="learned_words"):
        output.build("walsh", SIZE, WORDS, families=16, learned_words=WORDS + 1)


def test_a_head_that_is_exchanged_can_have_rows() -> None:
    network = nn.Sequential(nn.Linear(4, SIZE), nn.Linear(SIZE, WORDS))
    replaced = replace_head(network, "walsh", families=16, learned_words=9)
    assert replaced.after == 4 * SIZE + SIZE + (32 + 9) * SIZE + WORDS + 1
    F.cross_entropy(network(torch.randn(8, 4)), torch.arange(8)).backward()
    grad = network[1].head.grad  # type: ignore[union-attr]
    assert grad.shape == (9, SIZE)
    assert grad.abs().sum() > 0


def test_a_run_with_rows_trains_and_is_scored_the_same_from_its_files(small: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    flags = ["--output-embed", "walsh", "--walsh-families", "16", "--walsh-pmi-dim", "4", "--learned-words", "5"]
    assert cli.main(["train", *small, *flags, "--run", str(run.path), "--lr", "0.03"]) == 0
    model = load_model(run)
    text = corpus.load(**vars(TrainConfig.from_json(run.read_config()).data))
    assert model.output.head_words.tolist() == (-text.counts).argsort(kind="stable")[:5].tolist()
    stored = json.loads(run.result.read_text())["valid"]["perplexity"]
    assert evaluate(model, text, "valid").perplexity == pytest.approx(stored)
    with torch.no_grad():
        model.output.head.zero_()  # type: ignore[union-attr]
    assert evaluate(model, text, "valid").perplexity > stored * 1.001
