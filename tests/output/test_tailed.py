"""Short rows for the words of the tail, against two plain products side by side."""

from __future__ import annotations

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
from fixlm.output.fixed import TailedOutput

DIM = 3
HEAD = [22, 21, 20, 19, 18]


def layer(dim: int = H, **options: object) -> TailedOutput:
    built = tail_layer(range(V - 1, -1, -1), dim, **({"tail_dim": DIM} | options))
    assert isinstance(built, TailedOutput)
    return built


def plain_logits(built: TailedOutput, hidden: Tensor, rows: Tensor) -> Tensor:
    """The equations of the layer, a word at a time."""
    x = hidden if built.projection is None else hidden @ built.projection.weight.t()
    y = hidden @ built.tail_map.weight.t()
    if built.normalize:
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    columns = []
    for word in range(V):
        if word in HEAD:
            row = SCALE * rows[word] + built.head[HEAD.index(word)]
            columns.append(built.alpha * x @ row)
        else:
            short = rows[word][:DIM]
            columns.append(built.tail_alpha * SCALE * y @ (short / short.norm()))
    return torch.stack(columns, dim=1) + built.bias


@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"dim": 6}])
def test_logits_nll_loss_and_gradients_are_those_of_the_equations(options: dict[str, object]) -> None:
    hidden, targets, _ = tokens()
    built = layer(**options)  # type: ignore[arg-type]
    expected = plain_logits(built, hidden, built.vectors)
    torch.testing.assert_close(built(hidden), expected)
    losses = F.cross_entropy(expected, targets, reduction="none")
    torch.testing.assert_close(built.nll(hidden, targets), losses.detach())
    require_same(built, hidden, built.loss(hidden, targets), losses.mean())


def test_each_target_is_scored_against_the_rows_of_its_fold() -> None:
    hidden, targets, folds = tokens()
    built = layer()
    rows = unit(FOLDS + 1, V, H)
    kept = built.fold_rows(rows)
    assert [part.shape for part in kept] == [(FOLDS + 1, M, H), (FOLDS + 1, V - M, DIM)]
    found = built.loss_in_folds(hidden.view(5, 6, H), targets.view(5, 6), folds.view(5, 6), kept)
    logits = [plain_logits(built, hidden[k : k + 1], rows[folds[k]]) for k in range(TOKENS)]
    require_same(built, hidden, found, F.cross_entropy(torch.cat(logits), targets))


def test_a_word_that_its_fold_does_not_know_has_a_row_of_zeros() -> None:
    rows = unit(FOLDS + 1, V, H)
    rows[1, 0] = 0
    _, tail = layer().fold_rows(rows.bfloat16())
    assert tail.dtype == torch.bfloat16
    assert not tail[1, 0].any()
    torch.testing.assert_close(tail[0, 0].float().norm(), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_at_the_start_the_tail_reads_the_first_numbers_of_the_features() -> None:
    built = output.build("pmi", H, V, vectors=unit(V, H), learned_words=M, tail_dim=DIM, normalize=False).double()
    hidden, _, _ = tokens()
    short = F.normalize(built.vectors[M:, :DIM], dim=1)  # type: ignore[union-attr]
    torch.testing.assert_close(built(hidden)[:, M:], 16 * hidden[:, :DIM] @ short.t())


def test_there_is_a_matrix_only_where_its_features_are_linear() -> None:
    built = layer(normalize=False)
    with torch.no_grad():
        built.tail_map.weight.normal_()
    hidden, _, _ = tokens()
    torch.testing.assert_close(built(hidden) - built.bias, hidden @ built.word_matrix().t())
    for options in ({"normalize": True}, {"normalize": False, "map": "mlp"}):
        with pytest.raises(InputError, match="no matrix gives the logits"):
            layer(**options).word_matrix()


def test_alpha_is_held_at_both_ends() -> None:
    names = dict(layer(alpha=0.5).named_parameters())
    assert names.keys() == {"bias", "head", "tail_map.weight"}


def test_a_state_dict_brings_its_own_words() -> None:
    hidden, targets, _ = tokens()
    built = layer()
    other = output.build("pmi", H, V, vectors=unit(V, H), learned_words=M, learned_words_scale=SCALE, tail_dim=DIM)
    other.double().load_state_dict(built.state_dict())
    torch.testing.assert_close(other.loss(hidden, targets), built.loss(hidden, targets))


def test_in_bfloat16_it_is_about_the_same() -> None:
    require_about_the_same_in_bfloat16(layer())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail_dim": H}, r"tail_dim: the rows of the matrix are no longer \(found 8, expected at most 7\)"),
        ({"learned_words": V}, r"learned_words: no word is left for the tail \(found 23\)"),
    ],
)
def test_what_leaves_no_tail_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        layer(**options)  # type: ignore[arg-type]
