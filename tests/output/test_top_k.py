"""The most likely words against a stable sort of all logits, from which they differ in no bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from embeddings.methods.hadamard import block_signs
from fixlm.errors import InputError
from fixlm.output.adaptive import AdaptiveOutput
from fixlm.output.fixed import FixedOutput
from fixlm.output.hadamard import HadamardOutput
from fixlm.output.kernels import top_k
from fixlm.output.kernels.top_k import top_k_by_kernel, top_k_by_torch
from fixlm.output.layer import OutputLayer
from fixlm.output.learned import LearnedOutput
from fixlm.output.walsh import WalshOutput

H, V = 32, 1000


def strewn(words: int, places: int) -> Tensor:
    """(V,) slots in no order, some of whose places stay empty."""
    return torch.randperm(places, generator=torch.Generator().manual_seed(1))[:words]


LAYERS: dict[str, Any] = {
    "hadamard": lambda: HadamardOutput(H, V),
    "hadamard, N no power of two": lambda: HadamardOutput(H, 50, 24),
    "hadamard, smaller than the kernel": lambda: HadamardOutput(H, 50, 8),
    "walsh": lambda: WalshOutput(H, V, families=64),
    "walsh, slots": lambda: WalshOutput(H, V, families=16, slots=strewn(V, 1600)),
    "walsh, own half": lambda: WalshOutput(H, V, families=1024, slots=strewn(V, 2048), halves="own"),
    "walsh, one block": lambda: WalshOutput(H, V, families=2048),
    "learned": lambda: LearnedOutput(H, V),
    "fixed": lambda: FixedOutput(H, torch.randn(V, H)),
    "adaptive": lambda: AdaptiveOutput(H, V, torch.randperm(V), cutoffs=[100]),
}


def layer(name: str) -> OutputLayer:
    torch.manual_seed(2)
    made: OutputLayer = LAYERS[name]()
    with torch.no_grad():
        if name != "adaptive":
            made.bias.normal_()
    return made


@torch.no_grad()
def all_logits(head: OutputLayer, x: Tensor) -> Tensor:
    """(…, V); with a gradient they are computed otherwise, and rounded otherwise."""
    return head(x)  # type: ignore[no-any-return]


def by_sort(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest; a stable sort leaves equal ones in order of ids."""
    values, ids = logits.sort(dim=-1, descending=True, stable=True)
    return values[..., :k], ids[..., :k]


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_the_first_of_all_logits(name: str, dtype: torch.dtype) -> None:
    head = layer(name).to(dtype)
    x = 8 * torch.randn(3, 2, H, dtype=dtype)
    logits = all_logits(head, x)
    words = logits.shape[-1]
    for k in (1, 10, words):
        assert_same(head.top_k(x, k), by_sort(logits, k))
    values, ids = head.top_k(x[0, 0], 3)
    assert_same((values, ids), by_sort(all_logits(head, x[0, 0]), 3))
    assert not values.requires_grad
    assert [each.shape for each in head.top_k(x[:0], 3)] == [(0, 2, 3)] * 2


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "adaptive"])
def test_of_equal_logits_the_smaller_id_comes_first(name: str) -> None:
    head = layer(name)
    with torch.no_grad():
        head.bias.copy_(torch.arange(len(head.bias)) % 3)
    x = torch.zeros(2, H)
    _, ids = head.top_k(x, 5)
    assert ids.tolist() == [[2, 5, 8, 11, 14]] * 2
    assert_same(head.top_k(x, 20), by_sort(all_logits(head, x), 20))


@pytest.mark.parametrize("size", [16, 64, 512, 2048, 8192])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("places", ["in order", "strewn"])
def test_the_kernel_has_the_bits_of_plain_torch(
    size: int, places: str, monkeypatch: pytest.MonkeyPatch, *, both: bool
) -> None:
    """With whole numbers, whose sums are exact in any order, and most of which are equal to others."""
    generator = torch.Generator().manual_seed(size)
    blocks, k = 11, 40
    words = blocks * size - size // 2
    features = torch.randint(-2, 3, (3, size * (1 + both)), generator=generator).float()
    bias = torch.randint(-3, 4, (words,), generator=generator).float()
    signs = torch.from_numpy(block_signs(blocks, size)).float()
    in_slots = None
    if places == "strewn":
        in_slots = torch.full((blocks * size,), -1, dtype=torch.int32)
        in_slots[strewn(words, blocks * size)] = torch.arange(words, dtype=torch.int32)
    monkeypatch.setattr(top_k, "TILE_BYTES", 3 * 4 * 4 * size)  # tiles of four blocks
    arguments = (features, signs, bias, in_slots, k, 0.5)
    assert_same(top_k_by_kernel(*arguments), top_k_by_torch(*arguments))


def test_any_number_of_threads_finds_the_same() -> None:
    head = layer("walsh, slots")
    x = torch.randn(700, H)  # enough for the threads
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = head.top_k(x, 5)
        torch.set_num_threads(3)
        assert_same(head.top_k(x, 5), one)
    finally:
        torch.set_num_threads(before)
    assert_same(one, by_sort(all_logits(head, x), 5))


@pytest.mark.parametrize("name", ["hadamard", "walsh, slots", "learned"])
def test_features_that_are_not_numbers_give_logits_that_are_none(name: str) -> None:
    values, ids = layer(name).top_k(torch.full((1, H), torch.nan), 4)
    assert values.isnan().all()
    assert len(set(ids[0].tolist())) == 4
    assert 0 <= ids.min() <= ids.max() < V


def test_words_that_a_bias_excludes_come_last() -> None:
    head = layer("walsh, slots")
    with torch.no_grad():
        head.bias.fill_(-torch.inf)
        head.bias[[7, 3]] = 0
    values, ids = head.top_k(torch.randn(H), 4)
    assert set(ids[:2].tolist()) == {3, 7}
    assert ids[2:].tolist() == [0, 1]
    assert values[2:].tolist() == [-torch.inf] * 2


@pytest.mark.parametrize("name", ["hadamard", "walsh, slots"])
def test_in_bfloat16_words_are_ranked_before_they_are_rounded(name: str) -> None:
    head = layer(name).bfloat16()
    x = torch.randn(2, H).bfloat16()
    logits = all_logits(head, x)
    values, ids = head.top_k(x, 50)
    assert values.dtype == torch.bfloat16
    assert_same((values, logits.gather(1, ids)), (by_sort(logits, 50)[0],) * 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(name).top_k(x.float(), 2)[0].dtype == torch.bfloat16


def test_slots_from_a_state_dict_are_those_of_the_words() -> None:
    head = layer("walsh, slots")
    x = torch.randn(1, H)
    head.top_k(x, 1)
    other = WalshOutput(H, V, families=16)
    other.top_k(x, 1)
    other.load_state_dict(head.state_dict())
    assert_same(other.top_k(x, 9), head.top_k(x, 9))


def test_no_array_of_all_logits_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hadamard", "walsh, slots"):
        head = layer(name)
        monkeypatch.setattr(head, "_logits", lambda hidden: pytest.fail("all logits"))
        head.top_k(torch.randn(1, H), 10)


@pytest.mark.parametrize("k", [0, -1, V + 1])
def test_k_words_have_to_be_there(k: int) -> None:
    with pytest.raises(InputError, match=rf"^k: not a number of words .found {k}, expected 1 to {V}.\.$"):
        layer("learned").top_k(torch.randn(H), k)
    with pytest.raises(InputError, match=r"^hidden: not the features"):
        layer("walsh").top_k(torch.randn(H + 1), 1)


def test_plain_torch_is_used_where_the_kernel_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    head = layer("walsh, slots").double()
    x = torch.randn(2, H, dtype=torch.float64)
    expected = head.top_k(x, 6)
    monkeypatch.setattr(top_k, "kernel_fits", lambda *_: False)
    values, ids = head.top_k(x, 6)
    torch.testing.assert_close(values, expected[0])
    assert torch.equal(ids, expected[1])
