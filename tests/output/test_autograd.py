"""What torch's autograd may ask of a loss that makes its gradients in the forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from heads import NAMES, H, batch, layer, vectors
from torch import Tensor

from fixlm.errors import InputError
from fixlm.output.fixed import FixedOutput
from fixlm.output.kernels import block_hadamard, linear_cross_entropy, projected_cross_entropy


@pytest.mark.parametrize("name", NAMES)
def test_a_second_derivative_is_refused_or_right(name: str) -> None:
    head = layer(name).double()
    x, targets = batch(4, dtype=torch.float64)
    with pytest.raises(InputError, match=r"loss: it has no second derivative \(found create_graph=True\)"):
        torch.autograd.grad(head.loss(x, targets), x, create_graph=True)

    def second(loss: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        (found,) = torch.autograd.grad(gradient.square().sum(), x)
        return found

    expected = second(F.cross_entropy(head(x), targets))
    torch.testing.assert_close(second(head.loss(x, targets, reduction="none").mean()), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_batch_whose_targets_are_all_ignored_gives_gradients_of_zero(name: str, reduction: str) -> None:
    head = layer(name)
    x, targets = batch(4)
    head.loss(x.detach(), torch.full_like(targets, -100), reduction=reduction).sum().backward()
    assert [key for key, each in head.named_parameters() if each.grad is None or each.grad.any()] == []


@pytest.mark.parametrize("name", NAMES)
def test_without_a_graph_no_gradient_is_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []
    implementation_for = block_hadamard.implementation_for

    def watched(*arguments: Any) -> Any:
        implementation = implementation_for(*arguments)

        def called(*given: Any) -> Any:
            wanted.append(given[5] is not None)  # where the gradient goes
            return implementation(*given)

        return called

    def product(*_: Any, **__: Any) -> Any:
        wanted.append(True)
        raise AssertionError

    head = layer(name)
    x, targets = batch(4)
    expected = head.loss(x, targets).detach()
    for module in (block_hadamard, projected_cross_entropy):
        monkeypatch.setattr(module, "implementation_for", watched)
    monkeypatch.setattr(linear_cross_entropy, "_towards", product)
    monkeypatch.setattr(linear_cross_entropy, "_add_product", product)
    with torch.no_grad():
        torch.testing.assert_close(head.loss(x, targets), expected)
    assert not any(wanted)


def test_the_vectors_may_be_used_beside_the_loss_where_some_rows_are_trained() -> None:
    head = FixedOutput(H, vectors(), head_words=torch.arange(7))
    x, targets = batch(4)
    beside = (x @ head.vectors.t()).square().mean()
    (head.loss(x, targets) + beside).backward()
    assert x.grad is not None


def test_a_layer_keeps_vectors_of_its_own() -> None:
    unit = F.normalize(vectors(), dim=1).numpy()
    before = unit.copy()
    one, other = FixedOutput(H, unit), FixedOutput(H, unit)
    one.load_state_dict(FixedOutput(H, -vectors()).state_dict())
    assert (unit == before).all()
    assert torch.equal(other.vectors, torch.from_numpy(before))
