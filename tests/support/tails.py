"""Small fixed layers with a trained head and a tail, and tokens for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fixlm import output
from fixlm.output.layer import OutputLayer

V, H, M, TOKENS, FOLDS = 23, 8, 5, 30, 3
SCALE = 4.0


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64), dim=-1)


def tokens() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, targets and folds."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(TOKENS, H, generator=generator, dtype=torch.float64)
    draw = [torch.randint(0, most, (TOKENS,), generator=generator) for most in (V, FOLDS)]
    return hidden.requires_grad_(), *draw


def tail_layer(by_frequency: Sequence[int], dim: int, **options: object) -> OutputLayer:
    """A layer in float64 whose trained numbers are not those of its start."""
    torch.manual_seed(1)
    given = {"learned_words": M, "learned_words_scale": SCALE} | options
    layer = output.build("pmi", H, V, vectors=unit(V, dim), by_frequency=torch.tensor(by_frequency), **given).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return layer


def require_same(layer: OutputLayer, hidden: Tensor, found: Tensor, expected: Tensor) -> None:
    """Two losses and their gradients for the hidden states and all that the layer trains."""
    torch.testing.assert_close(found, expected)
    trained = [hidden, *layer.parameters()]
    for ours, right in zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(ours, right)


def require_about_the_same_in_bfloat16(layer: OutputLayer) -> None:
    hidden, targets, _ = tokens()
    layer = layer.float()
    right = layer.loss(hidden.float(), targets)
    layer.precision = torch.bfloat16
    torch.testing.assert_close(layer.loss(hidden.float(), targets), right, rtol=0.03, atol=0)
    torch.testing.assert_close(layer.to(torch.bfloat16).loss(hidden.bfloat16(), targets), right, rtol=0.05, atol=0)
