"""Layers in other hands than those of the trainer: threads, traces, odd numbers, wrong arguments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

import fixlm
from fixlm.errors import InputError
from fixlm.evaluation.continuous_cache import ContinuousCache
from fixlm.evaluation.generation import draw
from fixlm.evaluation.ngrams import KneserNey
from fixlm.evaluation.sampling import Sampling
from fixlm.output.adaptive import AdaptiveOutput
from fixlm.output.layer import OutputLayer

H, V = 16, 64
VECTORS = torch.randn(V, H)
IDS = torch.arange(V)


def some() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(9, H), torch.randint(V, (9,))


def test_two_threads_may_share_a_layer_with_trained_rows() -> None:
    torch.manual_seed(1)
    layer = fixlm.FixedOutput(64, torch.randn(3000, 64), head_words=torch.arange(500))
    with torch.no_grad():
        layer.head.normal_()
    hidden, targets = torch.randn(200, 64), torch.randint(3000, (200,))
    before, right = layer.vectors.clone(), layer.loss(hidden, targets).item()
    found: list[float] = []

    def work() -> None:
        for _ in range(20):
            with torch.no_grad():
                found.extend([layer.loss(hidden, targets).item(), layer.nll(hidden, targets).mean().item()])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == pytest.approx([right] * 120, rel=1e-5)
    assert torch.equal(layer.vectors, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lowest", [-torch.inf, -3e38])
@pytest.mark.parametrize(
    "make", [lambda **more: fixlm.HadamardOutput(512, 4096, **more),
             lambda **more: fixlm.WalshOutput(512, 4096, families=1024, **more)]
)  # fmt: skip
def test_words_that_never_occur_may_have_no_probability(
    make: Callable[..., OutputLayer], lowest: float, dtype: torch.dtype
) -> None:
    log_unigram = torch.zeros(4096)
    log_unigram[1030:] = lowest
    layer = make(log_unigram=log_unigram).to(dtype)
    hidden = torch.randn(20, 512, dtype=dtype, requires_grad=True)
    targets = torch.randint(1030, (20,))
    loss, expected = layer.loss(hidden, targets), F.cross_entropy(layer(hidden), targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(layer.nll(hidden, targets).mean(), expected.detach())
    ours, theirs = (torch.autograd.grad(each, hidden)[0] for each in (loss, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("layer", [fixlm.HadamardOutput(H, V), fixlm.LearnedOutput(H, V)])
def test_a_small_loss_keeps_its_digits(layer: Any) -> None:
    with torch.no_grad():
        layer.bias.fill_(-1e4)
        layer.bias[:2] = torch.tensor([1000.0, 991.0])
    hidden, targets = torch.zeros(3, H), torch.zeros(3, dtype=torch.int64)
    expected = np.log1p(np.exp(-9))
    assert layer.loss(hidden, targets).item() == pytest.approx(expected, rel=1e-3)
    assert layer.nll(hidden, targets)[0].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.filterwarnings("ignore")  # of the trace, and that tracing is old
@pytest.mark.parametrize("layer", [fixlm.HadamardOutput(H, V), fixlm.WalshOutput(H, V, families=16)])
def test_a_trace_computes_what_the_layer_does(layer: OutputLayer) -> None:
    layer.requires_grad_(False)
    hidden, _ = some()
    with torch.no_grad():
        traced = torch.jit.trace(layer, (hidden,))
        torch.testing.assert_close(traced(-2 * hidden), layer(-2 * hidden))


@pytest.mark.filterwarnings("ignore")  # torch's own, of torch.jit.script
def test_the_tangent_of_a_frozen_layer_is_not_lost() -> None:
    layer = fixlm.HadamardOutput(H, V, normalize=False, alpha=1).requires_grad_(False)
    hidden, _ = some()
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(layer(forward_ad.make_dual(torch.zeros_like(hidden), hidden))).tangent
    torch.testing.assert_close(found, hidden @ layer.word_matrix().t())


def test_what_is_no_number_is_among_the_most_likely_as_torch_has_it() -> None:
    layer = fixlm.HadamardOutput(H, V)
    hidden, _ = some()
    hidden[2, 3] = torch.nan
    values, _ = layer.top_k(hidden, 3)
    expected = torch.topk(layer(hidden), 3).values
    torch.testing.assert_close(values, expected.detach(), equal_nan=True)


def test_folds_that_are_not_there_are_refused() -> None:
    hidden, targets = some()
    layer, rows = fixlm.FixedOutput(H, VECTORS), torch.randn(3, V, H)
    for folds, said in ((torch.full((9,), 5), r"folds: no such fold \(found 5, expected 0 to 2\)"),
                        (torch.full((9,), -1), "folds: no such fold"),
                        (torch.zeros(4, dtype=torch.int64), "folds: not one for each target")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            layer.loss_in_folds(hidden, targets, folds, rows)


def test_a_refused_state_dict_leaves_the_codes_as_they_were() -> None:
    layer = fixlm.WalshOutput(H, V, families=16)
    state = layer.state_dict() | {"slots": torch.zeros(V, dtype=torch.int64)}
    with pytest.raises(RuntimeError, match="slots: not those of 64 words"):
        layer.load_state_dict(state)
    assert torch.equal(layer.slots, IDS)


def test_the_part_of_an_attention_is_no_head() -> None:
    network = nn.ModuleDict({"head": nn.Linear(H, V), "attention": nn.MultiheadAttention(H, 2)})
    assert fixlm.replace_head(network, "hadamard").name == "head"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fixlm.HadamardOutput(H, 0), "vocabulary_size: not a possible number"),
        (lambda: fixlm.LearnedOutput(-3, V), "hidden_size: not a possible number"),
        (lambda: fixlm.WalshOutput(H, 0), "vocabulary_size: not a possible number"),
        (lambda: fixlm.WalshOutput(H, V, families=2.0), "families: not a possible number"),
        (lambda: fixlm.WalshOutput(H, V, slots=torch.zeros(0, dtype=torch.int64)), "slots: not one for each word"),
        (lambda: fixlm.WalshOutput(H, V, families=16, slots=IDS[:, None]), "slots: not one for each word"),
        (lambda: fixlm.WalshOutput(H, V, head_words=IDS[:4, None]), "head_words: the ids do not stand in one row"),
        (lambda: fixlm.FixedOutput(H, VECTORS, head_words=IDS[:4, None]), "head_words: the ids do not stand in one"),
        (lambda: fixlm.FixedOutput(H, torch.zeros(0, H)), "vectors: there is none"),
        (lambda: fixlm.FixedOutput(H, VECTORS, head_words=IDS[:2], learned_words_scale=float("nan")), "out of range"),
        (lambda: fixlm.FixedOutput(H, VECTORS, map_size=7), "map_size: only a perceptron"),
        (lambda: fixlm.FixedOutput(H, VECTORS, map="mlp", map_size=-7), "map_size: not a possible number"),
        (lambda: fixlm.FixedOutput(H, VECTORS, precision="bf16"), "precision: not a type of torch"),
        (lambda: fixlm.FixedOutput(H, VECTORS, log_unigram=torch.full((V,), torch.nan)), "log_unigram: values that"),
        (lambda: fixlm.ClusteredOutput(H, VECTORS, words=IDS, learned_words=8.5, tail_clusters=2), "learned_words: no"),
        (lambda: AdaptiveOutput(H, V, torch.zeros(V, dtype=torch.int64), cutoffs=[8]), "words: the ids are not those"),
        (lambda: ContinuousCache(0, [1.0]), "size: not a possible number"),
        (lambda: KneserNey(np.arange(9), 65_536, 5), r"order: too long for 65,536 words \(found 5, expected 1 to 4\)"),
    ],
)  # fmt: skip
def test_what_a_layer_cannot_be_made_of_is_said(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_what_is_no_tensor_or_no_target_is_said() -> None:
    layer, (hidden, targets) = fixlm.HadamardOutput(H, V), some()
    for call, said in ((lambda: layer.loss(hidden, targets.tolist()), "targets: not a tensor"),
                       (lambda: layer(hidden.numpy()), "hidden: not a tensor"),
                       (lambda: layer.loss(hidden, targets.to(torch.complex64)), "targets: not the ids of words"),
                       (lambda: layer.top_k(hidden, 2.5), "k: not a number of words")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            call()


def test_a_word_is_drawn_at_any_temperature_and_share() -> None:
    logits, random = torch.tensor([1.0, 4.0, -torch.inf, 2.0]), torch.Generator().manual_seed(1)
    hot = {draw(logits, Sampling(temperature=1e39), random) for _ in range(40)}
    assert hot == {0, 1, 3}
    assert draw(logits, Sampling(top_p=1e-300), random) == 1
    with pytest.raises(InputError, match="model: its logits are not numbers"):
        draw(torch.tensor([1.0, torch.nan]), Sampling(temperature=0), random)
