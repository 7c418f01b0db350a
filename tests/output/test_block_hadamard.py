"""The transforms and the fused loss against dense products with the codewords themselves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor

from embeddings.methods.hadamard import block_signs
from fixlm.output.kernels import block_hadamard
from fixlm.output.kernels import projected_cross_entropy as projected
from fixlm.output.kernels.block_hadamard import (
    UNUSED,
    block_hadamard_cross_entropy,
    block_hadamard_logits,
    block_hadamard_nll,
    cross_entropy_by_kernel,
    cross_entropy_by_torch,
    kronecker_transform,
    walsh_hadamard,
)
from fixlm.output.kernels.projected_cross_entropy import projected_cross_entropy

pytestmark = pytest.mark.slow  # the kernels are compiled for each type and each switch

SIZES = [2**m for m in range(4, 14)]  # 16 … 8,192


@pytest.fixture(params=["kernel", "torch"])
def _both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel, and plain torch that takes its place on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(block_hadamard, "kernel_fits", lambda *_: False)


def problem(
    size: int, words: int, *, both: bool, tokens: int = 11, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, signs, bias and targets of a layer with M = size whose last block is not full."""
    generator = torch.Generator().manual_seed(size)
    signs = torch.from_numpy(block_signs(-(-words // size), size)).to(dtype)
    features = torch.randn(tokens, size * (1 + both), generator=generator, dtype=torch.float64)
    features *= 3 * features.shape[1] ** -0.5  # logits of deviation 3
    bias = torch.full((signs.numel(),), UNUSED, dtype=dtype)
    bias[:words] = torch.randn(words, generator=generator, dtype=torch.float64).to(dtype)
    return features.to(dtype), signs, bias, torch.randint(0, words, (tokens,), generator=generator)


@lru_cache(maxsize=1)
def sylvester(size: int) -> Tensor:
    return torch.from_numpy(scipy.linalg.hadamard(size, dtype=np.float64))


def dense_logits(features: Tensor, signs: Tensor) -> Tensor:
    """Products of the features with [H_M[i], H_M[i] ∘ d_c], or with the second half alone, in order of slots."""
    *shared, own = features.split(signs.shape[1], dim=1)
    return torch.cat([(sum(shared) + sign * own) @ sylvester(len(sign)) for sign in signs], 1)


@pytest.mark.parametrize("size", [2, 8, *SIZES])
def test_both_transforms_are_the_product_with_the_sylvester_matrix(size: int) -> None:
    x = torch.randn(3, 5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = x @ torch.from_numpy(scipy.linalg.hadamard(size)).double()
    torch.testing.assert_close(walsh_hadamard(x), expected)
    torch.testing.assert_close(kronecker_transform(x), expected)


def test_the_transform_passes_its_gradient_on() -> None:
    x = torch.randn(2, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(walsh_hadamard, x)


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_loss_and_gradients_are_those_of_the_dense_product(size: int, *, both: bool) -> None:
    words = min(size * size // 2, 2 * size + 77)
    features, signs, bias, targets = problem(size, words, both=both)
    features.requires_grad_()
    bias.requires_grad_()
    dense = F.cross_entropy(0.5 * dense_logits(features, signs) + bias, targets)
    ours = block_hadamard_cross_entropy(features, signs, bias, targets, 0.5)
    torch.testing.assert_close(ours, dense)
    for right, found in zip(
        torch.autograd.grad(3 * dense, (features, bias)), torch.autograd.grad(3 * ours, (features, bias)), strict=True
    ):
        torch.testing.assert_close(found, right)


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("both", [False, True])
def test_gradients_are_those_of_finite_differences(*, both: bool) -> None:
    features, signs, bias, targets = problem(16, 44, both=both, tokens=9)
    used = bias[:44].clone()

    def loss(features: Tensor, used: Tensor) -> Tensor:
        slots = F.pad(used, (0, len(bias) - 44), value=UNUSED)
        return block_hadamard_cross_entropy(features, signs, slots, targets)

    assert torch.autograd.gradcheck(loss, (features.requires_grad_(), used.requires_grad_()))


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("both", [False, True])
def test_nll_and_logits_are_those_of_the_dense_product(*, both: bool) -> None:
    features, signs, bias, targets = problem(64, 300, both=both)
    dense = dense_logits(features, signs) + bias
    torch.testing.assert_close(block_hadamard_logits(features, signs, bias), dense)
    some = block_hadamard_logits(features, signs, bias[:290])
    torch.testing.assert_close(some[:, :290], dense[:, :290])
    torch.testing.assert_close(block_hadamard_logits(features.requires_grad_(), signs, bias), dense)
    expected = F.cross_entropy(dense, targets, reduction="none")
    torch.testing.assert_close(block_hadamard_nll(features, signs, bias, targets), expected)


def by_kernel(features: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """nll, and the gradients of its sum for features and bias."""
    gradient = torch.empty_like(features)
    nll, grad_bias = cross_entropy_by_kernel(features, *rest, 1.0, gradient)
    return nll, gradient, grad_bias


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("size", [16, 1024])
def test_bfloat16_features_are_computed_with_in_float32(size: int, *, both: bool) -> None:
    wide, signs, bias, targets = problem(size, 3 * size - 5, both=both, dtype=torch.float32)
    narrow = wide.bfloat16().requires_grad_()
    wide = narrow.detach().float().requires_grad_()
    losses = [block_hadamard_cross_entropy(features, signs, bias, targets) for features in (narrow, wide)]
    torch.testing.assert_close(*losses, rtol=0, atol=0)
    found, right = (torch.autograd.grad(11 * loss, at)[0] for loss, at in zip(losses, (narrow, wide), strict=True))
    torch.testing.assert_close(found, right.bfloat16(), rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("size", [16, 256, 512, 2048, 8192])
def test_float32_is_within_1e_5_of_float64(size: int, *, both: bool) -> None:
    words = min(size * size // 2, 33_278)
    exact, low = (
        by_kernel(*problem(size, words, both=both, tokens=24, dtype=dtype)) for dtype in (torch.float64, torch.float32)
    )
    for right, found in zip(exact, low, strict=True):
        assert (found - right).norm() < 1e-5 * right.norm()


def test_slots_without_a_word_have_no_probability_and_no_gradient() -> None:
    features, signs, bias, targets = problem(64, 70, both=False, tokens=40)
    _, _, gradient = by_kernel(features, signs, bias, targets)
    assert gradient[70:].abs().max() < 1e-300
    assert gradient[:70].sum().abs() < 1e-12


def test_the_same_call_gives_the_same_bits_and_threads_change_only_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fixlm.output.kernels.threads.ENOUGH", 1)
    given = problem(32, 500, both=True, tokens=100, dtype=torch.float32)
    results = []
    for threads in (1, 2, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(by_kernel(*given))
    for one, two, again, five in zip(*results, strict=True):
        assert torch.equal(two, again)
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one, five)


def test_certain_and_hopeless_tokens_stay_finite() -> None:
    _, signs, bias, _ = problem(64, 300, both=False, tokens=2, dtype=torch.float32)
    rows = sylvester(64).float()
    features = 100 * torch.stack([rows[7], rows[58] * signs[3]])  # the codewords of slots 7 and 250
    slots = torch.tensor([7, 7])
    nll, gradient, _ = by_kernel(features, signs, bias, slots)
    assert nll[0] == 0
    assert nll[1] > 1000
    assert gradient.isfinite().all()
    expected = torch.empty_like(features)
    torch.testing.assert_close(nll, cross_entropy_by_torch(features, signs, bias, slots, 1.0, expected)[0])
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-5)


def test_features_that_are_no_numbers_give_a_loss_that_is_none() -> None:
    features, signs, bias, targets = problem(64, 300, both=False)
    features[3, 5] = np.nan
    nll = block_hadamard_nll(features, signs, bias, targets)
    assert nll.isnan().tolist() == [token == 3 for token in range(len(nll))]


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("tile", [1, 2**20])
def test_projected_features_give_the_loss_and_gradients_of_unprojected_ones(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected, "FEATURE_BYTES", tile)
    _, signs, bias, targets = problem(16, 44, both=True, tokens=37)
    hidden, weight = torch.randn(37, 5, dtype=torch.float64), torch.randn(32, 5, dtype=torch.float64)
    gain = torch.tensor(1.5, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (hidden, weight, bias, gain)]
    plain = block_hadamard_cross_entropy(gain * hidden @ weight.t(), signs, bias, targets)
    ours = projected_cross_entropy(hidden, weight, signs, bias, targets, gain)
    torch.testing.assert_close(ours, plain)
    for found, right in zip(torch.autograd.grad(3 * ours, inputs), torch.autograd.grad(3 * plain, inputs), strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("both", [False, True])
def test_bfloat16_projections_are_near_the_float32_ones(*, both: bool) -> None:
    _, signs, bias, targets = problem(16, 44, both=both, tokens=37, dtype=torch.float32)
    inputs = [torch.randn(37, 5), torch.randn(16 * (1 + both), 5), bias, torch.tensor(1.5)]
    hidden, weight, bias, gain = (tensor.requires_grad_() for tensor in inputs)
    exact = projected_cross_entropy(hidden, weight, signs, bias, targets, gain)
    low = projected_cross_entropy(hidden, weight, signs, bias, targets, gain, torch.bfloat16)
    torch.testing.assert_close(low, exact, rtol=2e-2, atol=0)
    assert low != exact
    for found, right in zip(torch.autograd.grad(low, inputs), torch.autograd.grad(exact, inputs), strict=True):
        assert (found - right).norm() < 0.03 * right.norm()


@pytest.mark.parametrize(
    ("features", "signs", "bias", "size", "chosen"),
    [
        (torch.bfloat16, torch.float32, torch.float32, 16, cross_entropy_by_kernel),
        (torch.float64, torch.float64, torch.float64, 16, cross_entropy_by_kernel),
        (torch.float32, torch.float32, torch.float32, 8, cross_entropy_by_torch),
        (torch.float32, torch.float32, torch.float64, 16, cross_entropy_by_torch),
        (torch.bfloat16, torch.bfloat16, torch.float32, 16, cross_entropy_by_torch),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16, 16, cross_entropy_by_torch),
    ],
)
def test_the_kernel_is_chosen_for_the_types_that_it_knows(
    features: torch.dtype, signs: torch.dtype, bias: torch.dtype, size: int, chosen: object
) -> None:
    of_layer = torch.ones(3, size, dtype=signs), torch.zeros(3 * size, dtype=bias)
    assert block_hadamard.implementation_for(torch.zeros(2, size, dtype=features), *of_layer) is chosen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_may_lie_anyhow_in_memory(dtype: torch.dtype) -> None:
    features, signs, bias, targets = problem(16, 44, both=True, dtype=torch.float32)
    features = features.to(dtype).requires_grad_()
    lying = features.detach().t().contiguous().t().requires_grad_()
    losses = [block_hadamard_cross_entropy(each, signs, bias, targets) for each in (features, lying)]
    torch.testing.assert_close(*losses, rtol=0, atol=0)
    pairs = zip(losses, (features, lying), strict=True)
    torch.testing.assert_close(*(torch.autograd.grad(*pair)[0] for pair in pairs), rtol=0, atol=0)
