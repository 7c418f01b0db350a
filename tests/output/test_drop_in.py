"""The output layers in networks that are not ours, where each stands in for an `nn.Linear` and its cross-entropy."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from heads import NAMES, H, V, batch, layer, vectors
from torch import Tensor, nn

from fixlm.errors import InputError
from fixlm.output import cross_entropy
from fixlm.output.cross_entropy import linear_cross_entropy
from fixlm.output.fixed import FixedOutput
from fixlm.output.hadamard import HadamardOutput
from fixlm.output.walsh import WalshOutput

SHAPES = [(), (5,), (2, 3), (2, 2, 2)]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: HadamardOutput(512, 33_278), id="hadamard"),
        pytest.param(lambda: FixedOutput(512, vectors(33_278, 512)), id="fixed"),
        pytest.param(lambda: WalshOutput(512, 33_278), id="walsh"),
    ],
)
def test_at_full_size_logits_are_dense_products_and_the_loss_is_their_cross_entropy(made) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    head = made()
    x, targets = torch.randn(2, 3, 512), torch.randint(0, 33_278, (2, 3))
    with torch.no_grad():
        logits = head(x)
        if isinstance(head, WalshOutput):
            expected = head.gain * (x @ head.projection().t()) @ head.codes().t() + head.bias
        else:
            expected = head.alpha * F.normalize(x, dim=-1) @ head.matrix().t() + head.bias
        loss = head.loss(x, targets)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_leading_dimensions(name: str, shape: tuple[int, ...]) -> None:
    head = layer(name)
    x, targets = batch(*shape)
    logits = head(x)
    assert logits.shape == (*shape, V)
    expected = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), reduction="none").view(shape)
    torch.testing.assert_close(head.loss(x, targets), expected.mean())
    torch.testing.assert_close(head.nll(x, targets), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [0, 2, 6])
@pytest.mark.parametrize("tile_bytes", [1, 2**20])
def test_loss_is_cross_entropy_of_the_logits_with_its_gradients(
    name: str, reduction: str, ignored: int, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ignored == 6 and reduction == "mean":
        pytest.skip("the mean of no losses is tested by itself")
    monkeypatch.setattr(cross_entropy, "TILE_BYTES", tile_bytes)
    head = layer(name).double()
    x, targets = batch(2, 3, dtype=torch.float64)
    targets.view(-1)[:ignored] = -100
    weight = torch.arange(1.0, 7, dtype=torch.float64).view(2, 3) if reduction == "none" else torch.tensor(3.0)

    found = head.loss(x, targets, reduction=reduction)
    logits = head(x).flatten(0, 1)
    expected = F.cross_entropy(logits, targets.flatten(), reduction=reduction).view(found.shape)
    torch.testing.assert_close(found, expected)

    trained = [x, *head.parameters()]
    ours = torch.autograd.grad((found * weight).sum(), trained, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad((expected * weight).sum(), trained, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_no_losses_is_not_a_number_as_in_torch(name: str) -> None:
    x, targets = batch(3)
    assert layer(name).loss(x, torch.full_like(targets, -100)).isnan()


def test_another_index_may_be_ignored_and_none_may_be() -> None:
    head = layer("hadamard")
    x, targets = batch(4)
    targets[0] = 7
    expected = F.cross_entropy(head(x), targets, ignore_index=7)
    torch.testing.assert_close(head.loss(x, targets, ignore_index=7), expected)
    targets[1] = -100
    with pytest.raises(InputError, match=r"targets: no such word \(found -100, expected 0 to 149\)"):
        head.loss(x, targets, ignore_index=None)


def test_an_unknown_reduction_is_named() -> None:
    x, targets = batch(3)
    with pytest.raises(InputError, match=r"unknown reduction 'avg'.*mean, none, sum"):
        layer("fixed").loss(x, targets, reduction="avg")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_three_types(name: str, dtype: torch.dtype) -> None:
    exact, head = layer(name).double(), layer(name).to(dtype)
    x, targets = batch(2, 3, dtype=dtype)
    tolerance = {"rtol": 0.03, "atol": 0.03} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}

    assert head(x).dtype == dtype
    torch.testing.assert_close(head(x).double(), exact(x.double()), rtol=tolerance["rtol"], atol=0.3)
    loss = head.loss(x, targets)
    assert loss.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)  # a low type is no place for a sum
    torch.testing.assert_close(loss.double(), exact.loss(x.double(), targets), **tolerance)
    for reduction in ("sum", "none"):
        head.loss(x, targets, reduction=reduction).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_autocast_takes_the_products_in_bfloat16_and_the_sums_in_float32(name: str) -> None:
    head = layer(name)
    x, targets = batch(2, 3)
    exact = head.loss(x, targets)
    with torch.autocast("cpu", torch.bfloat16):
        logits, loss = head(x), head.loss(x, targets)
        from_linear = head.loss(nn.Linear(H, H)(x), targets)  # which gives bfloat16
    assert logits.dtype == torch.bfloat16  # as nn.Linear
    assert loss.dtype == from_linear.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    (loss + from_linear).backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32


def test_states_of_another_type_are_refused_outside_autocast() -> None:
    x, targets = batch(3, dtype=torch.bfloat16)
    for call in (lambda head: head(x), lambda head: head.loss(x, targets), lambda head: head.nll(x, targets)):
        with pytest.raises(InputError, match=r"found torch.bfloat16, expected torch.float32.*layer.to\(torch.bfloat16"):
            call(layer("fixed"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["state dict", "deepcopy", "torch.save"])
def test_round_trips(name: str, way: str) -> None:
    head = layer(name)
    if way == "deepcopy":
        other = copy.deepcopy(head)
    else:
        file = io.BytesIO()
        torch.save(head if way == "torch.save" else head.state_dict(), file)
        file.seek(0)
        other = torch.load(file, weights_only=way == "state dict")
    if way == "state dict":
        state = other
        other = FixedOutput(H, vectors(V).flip(0)) if name == "fixed" else layer(name)
        other.load_state_dict(state)
    x, _ = batch(4)
    assert torch.equal(other(x), head(x))
    with torch.no_grad():
        head.bias.add_(1)
    assert not torch.equal(other(x), head(x))  # nothing is shared


def test_a_loaded_walsh_layer_has_the_families_of_the_saved_one() -> None:
    slots = torch.arange(V).flip(0) + 32  # two blocks more than by default
    head, other = WalshOutput(H, V, 16, slots=slots), WalshOutput(H, V, 16)
    other.load_state_dict(head.state_dict())
    x, targets = batch(4)
    assert torch.equal(other(x), head(x))
    torch.testing.assert_close(other.loss(x, targets), head.loss(x, targets))


@pytest.mark.parametrize("name", NAMES)
def test_a_replica_of_data_parallel_uses_its_own_numbers(name: str) -> None:
    head = layer(name)
    replica = head._replicate_for_data_parallel()
    for key, value in head.named_parameters():
        setattr(replica, key, value + 0)  # as torch's broadcast does: a tensor that leads back to the parameter
    x, targets = batch(4)
    replica.loss(x, targets).backward()
    assert head.bias.grad is not None  # through the copy
    torch.testing.assert_close(replica(x), head(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_without_bias(name: str) -> None:
    head = layer(name, bias=False)
    assert "bias" not in dict(head.named_parameters()) | head.state_dict()
    with torch.no_grad():
        head.bias.zero_()
    x, targets = batch(4)
    torch.testing.assert_close(head.loss(x, targets), F.cross_entropy(head(x), targets))
    head.loss(x, targets).backward()


def test_rows_that_are_not_of_norm_1_are_scaled_and_others_keep_their_bits() -> None:
    unit = F.normalize(vectors(), dim=1)
    assert torch.equal(FixedOutput(H, unit).vectors, unit)
    assert FixedOutput(H, unit, in_state_dict=False).vectors is unit
    torch.testing.assert_close(FixedOutput(H, 7 * unit).matrix(), unit)


def test_vectors_of_numpy_have_the_type_of_the_layer_and_tensors_their_own() -> None:
    unit = F.normalize(vectors(), dim=1).double()
    torch.testing.assert_close(FixedOutput(H, unit.numpy()).matrix(), unit.float())
    torch.testing.assert_close(FixedOutput(H, unit).matrix(), unit)


@pytest.mark.parametrize("name", NAMES)
def test_targets_may_lie_apart_in_memory_and_there_may_be_none(name: str) -> None:
    head = layer(name)
    x, targets = batch(4)
    apart = torch.stack([targets, targets], dim=1)[:, 1]
    assert not apart.is_contiguous()
    torch.testing.assert_close(head.loss(x, apart), head.loss(x, targets))
    torch.testing.assert_close(head.nll(x, apart), head.nll(x, targets))
    assert head.nll(x[:0], targets[:0]).shape == (0,)


def test_a_map_and_a_scale_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="map: unknown map 'MLP'"):
        HadamardOutput(H, V, map="MLP")
    with pytest.raises(InputError, match=r"learned_words_scale: out of range \(found 0.0, expected above 0\)"):
        FixedOutput(H, vectors(), head_words=torch.arange(3), learned_words_scale=0.0)
    with pytest.raises(InputError, match=r"head_words: ids are int64, not torch\.int32"):
        FixedOutput(H, vectors(), head_words=torch.arange(3).int())


def test_the_start_of_a_bias_is_copied_in_the_type_of_the_layer() -> None:
    start = torch.zeros(V)
    head = HadamardOutput(H, V, log_unigram=start)
    with torch.no_grad():
        head.bias += 1
    assert not start.any()
    torch.set_default_dtype(torch.float64)
    try:
        assert HadamardOutput(H, V, log_unigram=start).bias.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_start_of_a_bias_has_a_number_for_each_word() -> None:
    with pytest.raises(InputError, match="log_unigram: not one number for each word"):
        layer("fixed", log_unigram=torch.zeros(V + 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, H), "rows of zeros, which have no direction .found 3 of 3, the first is row 0"),
        (np.full((3, H), np.nan), "not finite .found row 0"),
        (torch.ones(H), "not a matrix of vectors"),
        (torch.ones(3, H, dtype=torch.long), "of torch.int64"),
    ],
)
def test_vectors_that_cannot_serve_are_refused(wrong: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FixedOutput(H, wrong)


class TestLinearCrossEntropy:
    def test_it_is_the_composition_it_replaces(self) -> None:
        x, targets = batch(2, 3, dtype=torch.float64)
        targets[0, 0] = -100
        weight, bias = torch.randn(V, H).double().requires_grad_(), torch.randn(V).double().requires_grad_()
        for reduction in ("mean", "sum", "none"):
            found = linear_cross_entropy(x, weight, bias, targets, reduction=reduction)
            expected = F.cross_entropy(F.linear(x, weight, bias).flatten(0, 1), targets.flatten(), reduction=reduction)
            torch.testing.assert_close(found, expected.view(found.shape))
            trained = (x, weight, bias)
            torch.testing.assert_close(
                torch.autograd.grad(found.sum(), trained), torch.autograd.grad(expected.sum(), trained)
            )

    def test_a_frozen_weight_has_no_gradient_and_a_bias_is_not_needed(self) -> None:
        x, targets = batch(4)
        weight = torch.randn(V, H)
        linear_cross_entropy(x, weight, None, targets).backward()
        assert weight.grad is None
        assert x.grad is not None

    def test_the_bias_may_lie_apart_in_memory(self) -> None:
        x, targets = batch(4)
        apart = torch.randn(V, 3)[:, 0]
        expected = F.cross_entropy(F.linear(x, vectors(), apart), targets)
        torch.testing.assert_close(linear_cross_entropy(x, vectors(), apart, targets), expected)

    def test_a_frozen_bfloat16_weight_serves_float32_features(self) -> None:
        x, targets = batch(4)
        weight = torch.randn(V, H).bfloat16()
        found = linear_cross_entropy(x, weight, None, targets)
        torch.testing.assert_close(found, F.cross_entropy(x @ weight.float().t(), targets), rtol=0.02, atol=0.02)

    @pytest.mark.parametrize(
        ("weight", "bias", "message"),
        [
            (torch.ones(V), None, r"weight: not a matrix"),
            (torch.ones(V, H + 1), None, r"hidden: not the features .*\[…, 33\]"),
            (torch.ones(V, H).double(), None, r"weight: not of the type of the features"),
            (torch.ones(V, H), torch.ones(2), r"bias: not one for each word"),
            (torch.ones(V, H), torch.ones(V).double(), r"bias: not of the type of the features"),
        ],
    )
    def test_what_does_not_fit_is_named(self, weight: Tensor, bias: Tensor | None, message: str) -> None:
        x, targets = batch(4)
        with pytest.raises(InputError, match=message):
            linear_cross_entropy(x, weight, bias, targets)
