"""The adaptive softmax: torch's class behind the contract of an output layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fixlm import output
from fixlm.errors import InputError
from fixlm.output.adaptive import AdaptiveOutput

V, H, TOKENS = 23, 8, 40
BY_FREQUENCY = torch.randperm(V, generator=torch.Generator().manual_seed(5))


def layer(**options: object) -> AdaptiveOutput:
    torch.manual_seed(1)
    given = {"by_frequency": BY_FREQUENCY, "cutoffs": [6, 15], "divisor": 2.0} | options
    built = output.build("adaptive", H, V, **given)  # type: ignore[arg-type]
    assert isinstance(built, AdaptiveOutput)
    return built.double()


def tokens() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(TOKENS, H, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), torch.randint(0, V, (TOKENS,), generator=generator)


def test_loss_nll_and_logits_say_the_same() -> None:
    hidden, targets = tokens()
    built = layer()
    logits = built.logits(hidden.view(5, 8, H)).view(TOKENS, V)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(TOKENS, dtype=torch.float64))
    expected = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(built.nll(hidden, targets), expected)
    found = built.loss(hidden, targets)
    torch.testing.assert_close(found, expected.mean())
    trained = [hidden, *built.parameters()]
    gradients = torch.autograd.grad(expected.mean(), trained)
    for ours, right in zip(torch.autograd.grad(found, trained), gradients, strict=True):
        torch.testing.assert_close(ours, right)


def test_frequent_words_stand_in_the_head() -> None:
    built = layer()
    assert built.softmax.head.weight.shape == (6 + 2, H)
    hidden, _ = tokens()
    head = F.log_softmax(built.softmax.head(hidden), dim=1)
    torch.testing.assert_close(built.logits(hidden)[:, BY_FREQUENCY[:6]], head[:, :6])


def test_it_starts_at_the_frequencies_of_words_and_clusters() -> None:
    counts = torch.randint(1, 100, (V,), generator=torch.Generator().manual_seed(3)).double()
    built = layer(log_unigram=(counts / counts.sum()).log())
    found = built.logits(torch.zeros(1, H, dtype=torch.float64)).exp()[0, BY_FREQUENCY]
    expected = (counts / counts.sum())[BY_FREQUENCY]
    torch.testing.assert_close(found[:6], expected[:6], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[6:15].sum(), expected[6:15].sum(), rtol=1e-5, atol=0)


def test_it_starts_at_vectors() -> None:
    vectors = torch.randn(V, H, dtype=torch.float64)
    built = layer(divisor=1.0)  # a cluster of full length can have all of its vectors
    built.start_at(vectors)
    by_rank = vectors[BY_FREQUENCY]
    torch.testing.assert_close(built.softmax.head.weight[:6], by_rank[:6])
    torch.testing.assert_close(built.softmax.head.weight[6], by_rank[6:15].mean(0))
    shorter, rows = built.softmax.tail[0]
    torch.testing.assert_close(rows.weight @ shorter.weight, by_rank[6:15])


def test_the_start_can_be_longer() -> None:
    built, longer = layer(), layer()
    longer.scale_start(4)
    torch.testing.assert_close(longer.softmax.head.weight, 4 * built.softmax.head.weight)
    for (_, tail), (_, scaled) in zip(built.softmax.tail, longer.softmax.tail, strict=True):
        torch.testing.assert_close(scaled.weight, 4 * tail.weight)


def test_cutoffs_beyond_the_vocabulary_are_left_out() -> None:
    assert len(layer(cutoffs=[6, 100]).softmax.tail) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoffs": [23, 30]}, r"adaptive_cutoffs: the vocabulary reaches none \(found 23, expected one below 23\)"),
        ({"divisor": 4.0}, "adaptive_divisor: the vectors of the last cluster would have no entry"),
    ],
)
def test_clusters_without_words_or_entries_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        layer(**options)


def test_the_head_may_have_no_bias_and_its_start_has_a_number_for_each_word() -> None:
    assert layer(bias=False).softmax.head.bias is None
    assert layer(bias=False, log_unigram=torch.zeros(V)).softmax.head.bias is None
    with pytest.raises(InputError, match="log_unigram: not one number for each word"):
        layer(log_unigram=torch.zeros(V + 1))


def test_ids_of_a_file_that_are_no_words_are_refused() -> None:
    built = layer()
    with pytest.raises(RuntimeError, match="the ids are not those of different words among 23"):
        built.load_state_dict(built.state_dict() | {"words": torch.zeros(V, dtype=torch.long)})


def test_it_has_no_single_matrix() -> None:
    with pytest.raises(InputError, match="no single matrix of words"):
        layer().word_matrix()


def test_autocast_and_bfloat16_have_a_loss_in_float32() -> None:
    hidden, targets = tokens()
    with torch.autocast("cpu", torch.bfloat16):
        built = layer().float()
        loss = built.loss(hidden.float(), targets)
        assert built(hidden.float()).dtype == torch.bfloat16
    torch.testing.assert_close(loss, layer().float().loss(hidden.float(), targets), rtol=0.02, atol=0.02)
    assert loss.dtype == layer().bfloat16().loss(hidden.bfloat16(), targets).dtype == torch.float32
