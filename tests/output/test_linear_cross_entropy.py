"""The tiled loss against the plain one: `F.cross_entropy(F.linear(…))`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fixlm.output.kernels import linear_cross_entropy as module
from fixlm.output.kernels.head_and_tail import Head, Tail
from fixlm.output.kernels.linear_cross_entropy import linear_cross_entropy, linear_nll


@pytest.fixture(params=[1, 2**20], ids=["many tiles", "one tile"])
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_BYTES", request.param)
    monkeypatch.setattr(module, "MINIMUM_TILE_TOKENS", 1)


@pytest.fixture(params=[True, False], ids=["kernel", "torch"])
def _both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel, and the operations of torch that take its place on other devices."""
    if not request.param:
        monkeypatch.setattr(module, "_kernel_fits", lambda *_: False)


def problem(dtype: torch.dtype = torch.float64, tokens: int = 37) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(tokens, 5, generator=generator, dtype=dtype)
    weight = torch.randn(17, 5, generator=generator, dtype=dtype)
    bias = torch.randn(17, generator=generator, dtype=dtype)
    return features, weight, bias, torch.randint(0, 17, (tokens,), generator=generator)


@pytest.mark.slow
@pytest.mark.usefixtures("_tile", "_both")
@pytest.mark.parametrize("needs", [(True, True, True), (True, False, True), (True, False, False)])
def test_gradients_are_those_of_finite_differences(needs: tuple[bool, bool, bool]) -> None:
    *inputs, targets = problem()
    inputs = [tensor.requires_grad_(needed) for tensor, needed in zip(inputs, needs, strict=True)]
    assert torch.autograd.gradcheck(lambda *given: linear_cross_entropy(*given, targets), inputs)


@pytest.mark.usefixtures("_tile", "_both")
def test_loss_and_gradients_are_those_of_the_plain_program() -> None:
    features, weight, bias, targets = problem()
    inputs = [tensor.requires_grad_() for tensor in (features, weight, bias)]
    plain = F.cross_entropy(F.linear(features, weight, bias), targets)
    tiled = linear_cross_entropy(features, weight, bias, targets)
    torch.testing.assert_close(tiled, plain)
    for ours, theirs in zip(
        torch.autograd.grad(3 * tiled, inputs), torch.autograd.grad(3 * plain, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("_tile", "_both")
def test_nll_of_each_token_is_that_of_the_plain_program() -> None:
    features, weight, bias, targets = problem()
    expected = F.cross_entropy(F.linear(features, weight, bias), targets, reduction="none")
    torch.testing.assert_close(linear_nll(features, weight, bias, targets), expected)


def test_a_fixed_weight_gets_no_gradient_and_costs_no_array_of_its_size() -> None:
    features, weight, bias, targets = problem()
    loss = linear_cross_entropy(features.requires_grad_(), weight, bias.requires_grad_(), targets)
    saved = [tuple(tensor.shape) for tensor in loss.grad_fn.saved_tensors if tensor is not None]  # type: ignore[union-attr]
    assert saved == [(37, 5), (17,)]


def test_no_array_holds_all_tokens_and_all_words(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    tiles = module._tiles

    def recorded(*given: Tensor) -> Iterator[module._Tile]:
        for tile in tiles(*given):
            sizes.append(tuple(tile.exponentials.shape))
            yield tile

    monkeypatch.setattr(module, "TILE_BYTES", 16 * 17 * 8)  # 16 tokens
    monkeypatch.setattr(module, "MINIMUM_TILE_TOKENS", 1)
    monkeypatch.setattr(module, "_tiles", recorded)
    features, weight, bias, targets = problem()
    linear_cross_entropy(features, weight, bias, targets)
    assert sizes == [(17, 16), (17, 16), (17, 5)]


@pytest.mark.usefixtures("_both")
def test_losses_of_certain_and_of_hopeless_tokens_stay_finite() -> None:
    features = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight, bias = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    nll = linear_nll(features, weight, bias, torch.tensor([0, 0]))
    assert nll.tolist() == [0.0, pytest.approx(2000.0)]
    linear_cross_entropy(features, weight, bias, torch.tensor([0, 0])).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.usefixtures("_both")
def test_bfloat16_products_are_near_the_float32_ones() -> None:
    features, weight, bias, targets = problem(torch.float32)
    features, weight = features.requires_grad_(), weight.requires_grad_()
    exact = linear_cross_entropy(features, weight, bias, targets)
    low = linear_cross_entropy(features, weight, bias, targets, torch.bfloat16)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=2e-2, atol=0)
    assert low != exact
    for ours, theirs in zip(
        torch.autograd.grad(low, (features, weight)), torch.autograd.grad(exact, (features, weight)), strict=True
    ):
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_loss_of_the_plain_program(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixlm.output.kernels.threads.ENOUGH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    features, weight, bias, targets = problem(tokens=70)
    expected = F.cross_entropy(F.linear(features, weight, bias), targets, reduction="none")
    torch.testing.assert_close(linear_nll(features, weight, bias, targets), expected)


def test_float32_loss_and_gradients_are_within_1e_5_of_float64() -> None:
    exact, low = problem(), problem()
    low = (*(tensor.float() for tensor in low[:3]), low[3])
    for tensor in (*exact[:3], *low[:3]):
        tensor.requires_grad_()
    losses = [linear_cross_entropy(*given) for given in (exact, low)]
    gradients = [torch.autograd.grad(loss, given[:3]) for loss, given in zip(losses, (exact, low), strict=True)]
    for right, ours in [losses, *zip(*gradients, strict=True)]:
        assert (ours - right).norm() < 1e-5 * right.norm()


@pytest.mark.parametrize("tile", [64 * 2**20, 1])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_trained_head_is_the_plain_program_with_those_rows(
    tile: int, precision: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients are those of the whole weight, of which the other rows are not trained."""
    monkeypatch.setattr("fixlm.output.kernels.linear_cross_entropy.TILE_BYTES", tile)
    features, weight, bias, targets = problem(torch.float32, tokens=150)
    ids = torch.tensor([4, 0, 9])
    places = torch.full((len(weight),), -1)
    places[ids] = torch.arange(3)
    rows = torch.randn(3, weight.shape[1], dtype=weight.dtype).requires_grad_()
    fixed = weight.detach().clone()
    trained = (features.requires_grad_(), bias.requires_grad_(), rows)
    found = linear_cross_entropy(features, fixed, bias, targets, precision, Head(rows, ids, places))
    expected = F.cross_entropy(F.linear(features, fixed.index_add(0, ids, rows), bias), targets)
    near = {} if precision is None else {"rtol": 0.05, "atol": 0.02}
    torch.testing.assert_close(found, expected, **near)
    for ours, right in zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(ours, right, **near)
    assert torch.equal(fixed, weight.detach())  # it is as it was


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("headed", [False, True])
def test_each_group_of_tokens_has_its_own_weight(headed: bool) -> None:
    features, weight, bias, targets = problem()
    weights = torch.stack([weight, weight.flip(0), 2 * weight, weight.roll(1, 0)])
    sizes = [12, 0, 25, 0]
    ids = torch.tensor([4, 0, 9])
    places = torch.full((len(weight),), -1)
    places[ids] = torch.arange(3)
    added = torch.randn(3, weight.shape[1], dtype=weight.dtype)
    trained = [tensor.requires_grad_() for tensor in (features, bias, added)[: 3 if headed else 2]]
    head = Head(added, ids, places) if headed else None
    found = linear_cross_entropy(features, weights, bias, targets, None, head, sizes)
    whole = weights.index_add(1, ids, added.expand(4, -1, -1)) if headed else weights
    logits = torch.cat([F.linear(part, w, bias) for part, w in zip(features.split(sizes), whole, strict=True)])
    expected = F.cross_entropy(logits, targets)
    torch.testing.assert_close(found, expected)
    for ours, right in zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(ours, right)
    assert torch.equal(weights, torch.stack([weight, weight.flip(0), 2 * weight, weight.roll(1, 0)]))


@pytest.mark.usefixtures("_tile", "_both")
@pytest.mark.parametrize("grouped", [False, True])
def test_a_tail_of_shorter_rows_shares_the_softmax(grouped: bool) -> None:
    features, weight, bias, targets = problem()
    weight = weight[:6]
    generator = torch.Generator().manual_seed(4)
    short, rest = torch.randn(len(targets), 2, generator=generator).double(), torch.randn(11, 2).double()
    added = torch.randn(6, 5, generator=generator).double()
    places = torch.cat([torch.arange(6), torch.full((11,), -1)])
    trained = [tensor.requires_grad_() for tensor in (features, bias, added, short)]
    sizes = [12, 0, 25] if grouped else [len(targets)]
    weights, rests = torch.stack([weight, weight, weight.flip(0)]), torch.stack([rest, rest, 2 * rest])
    logits = torch.cat(
        [
            torch.cat([x @ (w + added).t(), y @ r.t()], dim=1) + bias
            for x, y, w, r in zip(features.split(sizes), short.split(sizes), weights, rests, strict=False)
        ]
    )
    expected = F.cross_entropy(logits, targets)
    tail = Tail(short, rests if grouped else rest)
    head = Head(added, torch.arange(6), places)
    given = (features, weights if grouped else weight.clone(), bias, targets, None, head)
    found = linear_cross_entropy(*given, sizes if grouped else None, tail)
    torch.testing.assert_close(found, expected)
    for ours, right in zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(ours, right)
    if not grouped:
        nll = linear_nll(features, weight + added, bias, targets, tail=tail)
        torch.testing.assert_close(nll.mean(), expected)
