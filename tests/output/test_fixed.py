"""The fixed layer with rows of folds and with trained rows, against plain loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fixlm import output
from fixlm.errors import InputError
from fixlm.output.fixed import FixedOutput

V, H, TOKENS, FOLDS = 23, 8, 30, 3
BY_FREQUENCY = torch.arange(V).flip(0)


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64), dim=-1)


def tokens() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(TOKENS, H, generator=generator, dtype=torch.float64)
    draw = [torch.randint(0, most, (TOKENS,), generator=generator) for most in (V, FOLDS)]
    return hidden.requires_grad_(), *draw


def layer(**options: object) -> FixedOutput:
    built = output.build("pmi", H, V, vectors=unit(V, H), by_frequency=BY_FREQUENCY, **options)  # type: ignore[arg-type]
    assert isinstance(built, FixedOutput)
    return built.double()


@pytest.mark.parametrize("options", [{}, {"word_scales": True}, {"learned_words": 5}, {"normalize": False}])
def test_each_target_is_scored_against_the_rows_of_its_fold(options: dict[str, object]) -> None:
    hidden, targets, folds = tokens()
    rows = unit(FOLDS + 1, V, H)
    built = layer(**options)
    trained = [hidden, *built.parameters()]
    found = built.loss_in_folds(hidden.view(5, 6, H), targets.view(5, 6), folds.view(5, 6), rows)
    losses = []
    for k in range(TOKENS):
        own = layer(**options)
        own.load_state_dict(built.state_dict())
        weight = rows[folds[k]]
        if built.scales is not None:
            weight = built.scales[:, None] * weight
        if built.head is not None:
            weight = weight.index_add(0, built.head_words, built.head / 8)
        logits = built.features(hidden[k : k + 1]) @ weight.t() + built.bias
        losses.append(F.cross_entropy(logits, targets[k : k + 1]))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found, expected)
    for ours, right in zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(ours, right)


def test_a_fold_without_tokens_has_no_part() -> None:
    hidden, targets, folds = tokens()
    rows = unit(FOLDS + 1, V, H)
    found = layer().loss_in_folds(hidden, targets, torch.ones_like(folds), rows)
    only = FixedOutput(H, rows[1]).double()
    torch.testing.assert_close(found, only.loss(hidden, targets))


def test_a_layer_without_rows_of_a_text_has_no_folds() -> None:
    hidden, targets, folds = tokens()
    with pytest.raises(NotImplementedError, match="LearnedOutput has no rows that are counted on a text"):
        output.build("learned", H, V).double().loss_in_folds(hidden, targets, folds, unit(FOLDS, V, H))


# --- trained rows ------------------------------------------------------------------------------------------


def test_the_most_frequent_words_have_trained_rows() -> None:
    hidden, targets, _ = tokens()
    built = layer(learned_words=5, learned_words_scale=4.0, alpha_start=12.0)
    plain = layer(alpha_start=12.0)
    torch.testing.assert_close(built.logits(hidden), plain.logits(hidden))  # at the start it is the fixed layer
    assert built.alpha.item() == 3.0
    with torch.no_grad():
        built.head.copy_(torch.randn(5, H))
    weight = 4 * unit(V, H)
    weight[[22, 21, 20, 19, 18]] += built.head.detach()
    expected = 3.0 * F.normalize(hidden, dim=1) @ weight.t() + built.bias
    torch.testing.assert_close(built.logits(hidden), expected)
    torch.testing.assert_close(built.nll(hidden, targets), F.cross_entropy(expected, targets, reduction="none"))


def test_only_those_rows_have_a_gradient_and_it_is_that_of_the_whole_matrix() -> None:
    hidden, targets, _ = tokens()
    built = layer(learned_words=5)
    built.loss(hidden, targets).backward()
    found = {name: parameter.grad.clone() for name, parameter in built.named_parameters()}
    assert found.keys() == {"bias", "alpha", "head"}
    built.zero_grad()
    F.cross_entropy(built.logits(hidden), targets).backward()
    for name, parameter in built.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


@pytest.mark.parametrize("count", [24, -5])
def test_more_trained_words_than_there_are_is_an_error(count: int) -> None:
    what = rf"learned_words: not a number of words of the vocabulary \(found {count}, expected 0 to 23"
    with pytest.raises(InputError, match=what):
        layer(learned_words=count)


@pytest.mark.parametrize("wrong", [[0, 1, 23], [0, 1, -1], [0, 1, 1]])
def test_ids_of_a_file_that_are_no_words_are_refused(wrong: list[int]) -> None:
    built = layer(learned_words=3)
    state = built.state_dict() | {"head_words": torch.tensor(wrong)}
    with pytest.raises(RuntimeError, match="the ids are not those of different words among 23"):
        built.load_state_dict(state)
