"""Words of the tail in clusters, against the equations of the two steps with plain products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tails import (
    FOLDS,
    SCALE,
    TOKENS,
    H,
    M,
    V,
    require_about_the_same_in_bfloat16,
    require_same,
    tail_layer,
    tokens,
    unit,
)  # fmt: skip
from torch import Tensor

from fixlm import output
from fixlm.errors import InputError
from fixlm.output.clustered import ClusteredOutput, cluster_edges
from fixlm.output.fixed import TailedOutput

C = 2
ORDER = [(7 * rank + 3) % V for rank in range(V)]  # words by falling frequency


def layer(dim: int = H, **options: object) -> ClusteredOutput:
    built = tail_layer(ORDER, dim, **({"tail_clusters": C} | options))
    assert isinstance(built, ClusteredOutput)
    return built


def plain_log_probabilities(built: ClusteredOutput, hidden: Tensor, rows: Tensor) -> Tensor:
    """The equations of the layer, a word at a time: (n, H) → (n, V); the tail reads ``rows`` (V, N)."""
    x = hidden if built.projection is None else hidden @ built.projection.weight.t()
    y = hidden @ built.tail_map.weight.t()
    if built.normalize:
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    assert built.head is not None
    first = [SCALE * built.vectors[word] + row for word, row in zip(ORDER, built.head, strict=False)]
    first += [*built.cluster_rows]
    biases = torch.cat([built.bias[ORDER[:M]], built.cluster_bias])
    head = (built.alpha * x @ torch.stack(first).t() + biases).log_softmax(1)
    columns = {word: head[:, place] for place, word in enumerate(ORDER[:M])}
    for cluster, (start, stop) in enumerate(pairwise(built.edges)):
        words = ORDER[start:stop]
        short = torch.stack([rows[word][: built.tail_dim] for word in words])
        short = short / short.norm(dim=1, keepdim=True).clamp(min=1e-12)
        inside = (built.tail_alpha * SCALE * y @ short.t() + built.bias[words]).log_softmax(1)
        columns |= {word: head[:, M + cluster] + inside[:, place] for place, word in enumerate(words)}
    return torch.stack([columns[word] for word in range(V)], dim=1)


OPTIONS = [{}, {"normalize": False}, {"dim": 6}, {"tail_dim": 3}, {"tail_clusters": 1}, {"tail_clusters": 3}]


@pytest.mark.parametrize("options", OPTIONS)
def test_logits_nll_loss_and_gradients_are_those_of_the_equations(options: dict[str, object]) -> None:
    hidden, targets, _ = tokens()
    built = layer(**options)  # type: ignore[arg-type]
    expected = plain_log_probabilities(built, hidden, built.vectors)
    torch.testing.assert_close(expected.exp().sum(1), torch.ones(TOKENS, dtype=torch.float64))
    torch.testing.assert_close(built(hidden), expected)
    losses = F.nll_loss(expected, targets, reduction="none")
    torch.testing.assert_close(built.nll(hidden, targets), losses.detach())
    require_same(built, hidden, built.loss(hidden, targets), losses.mean())


@pytest.mark.parametrize("tail_dim", [None, 3])
def test_a_target_of_the_tail_is_scored_against_the_rows_of_its_fold(tail_dim: int | None) -> None:
    hidden, targets, folds = tokens()
    built = layer(tail_dim=tail_dim)
    rows = unit(FOLDS + 1, V, H)
    rows[1, ORDER[-1]] = 0  # a word that this fold alone has
    kept = built.fold_rows(rows)
    assert kept.shape == (FOLDS + 1, V - M, tail_dim or H)
    found = built.loss_in_folds(hidden.view(5, 6, H), targets.view(5, 6), folds.view(5, 6), kept)
    each = [plain_log_probabilities(built, hidden[k : k + 1], rows[folds[k]]) for k in range(TOKENS)]
    require_same(built, hidden, found, F.nll_loss(torch.cat(each), targets))


def test_rows_of_folds_stay_in_bfloat16_where_the_products_are() -> None:
    rows = unit(FOLDS + 1, V, H).bfloat16()
    assert layer().fold_rows(rows).dtype == torch.float32
    assert layer(precision=torch.bfloat16).fold_rows(rows).dtype == torch.bfloat16


def test_without_words_of_the_tail_every_parameter_still_has_a_gradient() -> None:
    hidden, _, folds = tokens()
    built = layer()
    targets = torch.full((TOKENS,), ORDER[0])
    built.loss(hidden, targets).backward()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert not built.tail_map.weight.grad.any()  # type: ignore[union-attr]
    kept = built.fold_rows(unit(FOLDS + 1, V, H))
    torch.testing.assert_close(built.loss_in_folds(hidden, targets, folds, kept), built.loss(hidden, targets))


def test_at_the_start_the_probabilities_are_those_of_the_unigram_where_the_features_are_zero() -> None:
    unigram = torch.rand(V, generator=torch.Generator().manual_seed(5)).log_softmax(0)
    built = output.build(
        "pmi", H, V, vectors=unit(V, H).float(), by_frequency=torch.tensor(ORDER), log_unigram=unigram, learned_words=M,
        tail_clusters=C,
    )  # fmt: skip
    torch.testing.assert_close(built(torch.zeros(1, H))[0], unigram)


def test_a_state_dict_brings_its_own_words() -> None:
    hidden, targets, _ = tokens()
    built = layer()
    other = output.build(
        "pmi", H, V, vectors=unit(V, H), learned_words=M, learned_words_scale=SCALE, tail_clusters=C
    ).double()
    other.load_state_dict(built.state_dict())
    torch.testing.assert_close(other.loss(hidden, targets), built.loss(hidden, targets))
    torch.testing.assert_close(other(hidden), built(hidden))


def test_words_that_a_file_names_twice_are_an_error() -> None:
    built = layer()
    state = built.state_dict()
    state["tail_words"] = state["tail_words"].clone()
    state["tail_words"][0] = ORDER[0]
    with pytest.raises(RuntimeError, match="tail_words: the ids are not those of different words among 23"):
        built.load_state_dict(state)


def test_in_bfloat16_it_is_about_the_same() -> None:
    require_about_the_same_in_bfloat16(layer())


def test_clusters_grow_by_a_constant_factor() -> None:
    assert cluster_edges(2000, 32_000, 2) == [2000, 8000, 32_000]
    assert cluster_edges(2000, 32_000, 1) == [2000, 32_000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail_dim": H + 1}, r"tail_dim: the rows of the matrix are no longer \(found 9, expected at most 8\)"),
        ({"learned_words": 0}, r"learned_words: only beside rows that are trained is there a tail \(found 0\)"),
        ({"word_scales": True}, "word_scales: the trained rows have a length of their own"),
        ({"learned_words": V}, r"tail_clusters: some would have no word \(found 2, expected fewer clusters or a"),
        ({"tail_clusters": 19}, r"tail_clusters: some would have no word \(found 19, expected fewer clusters or a"),
        ({"tail_clusters": 1 << 40}, "tail_clusters: some would have no word"),  # and not a list of that length
    ],
)
def test_a_tail_that_cannot_be_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        layer(**options)  # type: ignore[arg-type]


def test_there_is_no_single_matrix() -> None:
    with pytest.raises(InputError, match="words in clusters have no single matrix"):
        layer().word_matrix()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"words": torch.arange(V - 1)},
            r"words: some words are missing \(found 22 ids, expected each of 0 to 22 once",
        ),
        ({"words": torch.zeros(V, dtype=torch.int64)}, "words: the ids are not those of different words among 23"),
        ({"learned_words": 0}, "tail_clusters: a head of one word and one cluster are the least"),
        ({"tail_clusters": 0}, "tail_clusters: a head of one word and one cluster are the least"),
        ({"tail_dim": H + 1}, "tail_dim: the rows of the matrix are no longer"),
        ({"vectors": torch.zeros(V)}, "vectors: not a matrix of vectors"),
    ],
)
def test_what_the_constructor_does_not_take(options: dict[str, object], message: str) -> None:
    given = {"vectors": unit(V, H), "words": torch.arange(V), "learned_words": M, "tail_clusters": C} | options
    with pytest.raises(InputError, match=message):
        ClusteredOutput(H, **given)  # type: ignore[arg-type]


def test_a_state_dict_without_the_words_is_told_by_torch() -> None:
    state = {name: part for name, part in layer().state_dict().items() if "words" not in name}
    with pytest.raises(RuntimeError, match=r"Missing key.*head_words"):
        layer().load_state_dict(state)


def test_the_most_likely_words_are_those_of_the_logits() -> None:
    hidden, _, _ = tokens()
    built = layer()
    values, ids = built.top_k(hidden, 4)
    torch.testing.assert_close((values, ids), tuple(built(hidden).detach().topk(4)))


def test_alpha_is_held_at_both_ends() -> None:
    names = dict(layer(alpha=0.5).named_parameters())
    assert names.keys() == {"bias", "head", "tail_map.weight", "cluster_rows", "cluster_bias"}


def test_a_layer_that_was_scored_in_inference_mode_can_still_be_trained() -> None:
    hidden, targets, _ = tokens()
    built = layer().float()
    with torch.inference_mode():
        built.nll(hidden.float(), targets)
    built.loss(hidden.float(), targets).backward()
    assert built.bias.grad is not None


def test_words_may_be_an_array_of_numpy() -> None:
    words = np.argsort(-np.arange(20.0))
    layer = ClusteredOutput(8, torch.randn(20, 8), words=words, learned_words=4, tail_clusters=2)
    assert layer.head_words.tolist() == words[:4].tolist()
    backwards = ClusteredOutput(8, torch.randn(20, 8), words=words[::-1], learned_words=4, tail_clusters=2)
    assert backwards.head_words.tolist() == words[::-1][:4].tolist()


def test_rows_of_which_a_tail_leaves_nothing_are_told_by_its_length() -> None:
    with pytest.raises(InputError, match=r"tail_dim: nothing is left of some rows \(found 2\)"):
        TailedOutput(8, torch.eye(8), head_words=torch.arange(2), tail_dim=2)
