"""`FixedClassifier`: the paper's head for classes, by the name of its matrix."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fixlm
from fixlm.errors import InputError

N, C = 64, 10


@pytest.mark.parametrize("matrix", ["random-orthogonal", "hadamard", "sylvester"])
@pytest.mark.parametrize(("features", "classes"), [(64, 10), (64, 64), (512, 100)])
def test_rows_are_orthonormal_where_classes_are_not_more_than_features(
    matrix: str, features: int, classes: int
) -> None:
    rows = fixlm.FixedClassifier(features, classes, matrix).matrix()
    torch.testing.assert_close(rows @ rows.t(), torch.eye(classes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("matrix", ["random-orthogonal", "hadamard"])
def test_with_more_classes_than_features_rows_differ_and_keep_norm_1(matrix: str) -> None:
    rows = fixlm.FixedClassifier(32, 200, matrix).matrix()
    cosines = rows @ rows.t()
    torch.testing.assert_close(cosines.diag(), torch.ones(200))
    assert (cosines - torch.eye(200)).abs().max() < 0.8


def test_hadamard_is_the_papers_truncated_matrix() -> None:
    """The first C rows and N columns of a Sylvester matrix; with scipy's as the reference."""
    from scipy.linalg import hadamard

    rows = fixlm.FixedClassifier(48, 30, "hadamard").matrix()
    torch.testing.assert_close(rows, torch.from_numpy(hadamard(64)[:30, :48] / 48**0.5).float())


@pytest.mark.parametrize("matrix", ["random-orthogonal", "hadamard"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_logits_are_those_of_the_paper(matrix: str, shape: tuple[int, ...]) -> None:
    head = fixlm.FixedClassifier(N, C, matrix, alpha_start=5.0)
    nn.init.normal_(head.bias)
    x = torch.randn(*shape, N)
    expected = 5 * (x / x.norm(dim=-1, keepdim=True)) @ head.matrix().t() + head.bias
    torch.testing.assert_close(head(x), expected)
    torch.testing.assert_close(head(3 * x), expected)  # the length of x has no influence


def test_only_the_bias_and_one_number_are_trained() -> None:
    head = fixlm.FixedClassifier(N, C)
    before = head.matrix().clone()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, weight_decay=0.1)
    F.cross_entropy(head(torch.randn(32, N)), torch.randint(C, (32,))).backward()
    optimizer.step()
    assert sum(parameter.numel() for parameter in head.parameters()) == C + 1
    assert torch.equal(head.matrix(), before)


def test_a_state_dict_brings_the_matrix_along() -> None:
    one, other = (fixlm.FixedClassifier(N, C, matrix_seed=seed) for seed in (1, 2))
    x = torch.randn(3, N)
    assert not torch.allclose(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("matrix", ["random-orthogonal", "hadamard"])
def test_replace_head_makes_the_same_head_by_the_same_name(matrix: str) -> None:
    named, given = (nn.Sequential(nn.Linear(3, N), nn.ReLU(), nn.Linear(N, C)) for _ in range(2))
    fixlm.replace_head(named, matrix, matrix_seed=4)
    fixlm.replace_head(given, fixlm.FixedClassifier(N, C, matrix, matrix_seed=5))
    given.load_state_dict(named.state_dict())
    x = torch.randn(7, 3)
    assert torch.equal(named(x), given(x))


def test_vectors_of_ones_own_need_a_row_for_each_class() -> None:
    head = fixlm.FixedClassifier(N, C, 3 * torch.eye(C, N))
    torch.testing.assert_close(head.matrix(), torch.eye(C, N))
    with pytest.raises(InputError, match=r"matrix: not a row for each class .found 10, expected 11"):
        fixlm.FixedClassifier(N, C + 1, torch.eye(C, N))


@pytest.mark.parametrize("matrix", ["orthogonal", "learned", "walsh", "pmi", "pretrained"])
def test_a_name_that_is_no_rule_is_refused(matrix: str) -> None:
    with pytest.raises(InputError, match=f"matrix: unknown rule '{matrix}'.*hadamard, random-orthogonal, sylvester"):
        fixlm.FixedClassifier(N, C, matrix)
