"""The gradients of a window: clipped as torch clips them, and left alone where they are short enough."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixlm.model.embedding import input_embedding
from fixlm.model.language_model import LanguageModel
from fixlm.output import build
from fixlm.training.optimizer import take_gradients

WORDS, SIZE = 11, 6


def gradients(clip: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The norm before it was clipped, and the gradients after, of one model and window."""
    torch.manual_seed(1)
    model = LanguageModel(input_embedding(WORDS, SIZE), SIZE, build("learned", SIZE, WORDS))
    ids = torch.randint(WORDS, (8, 2))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    _, norm, _ = take_gradients(model, sgd, ids, model.start_state(2), clip)
    return norm, {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("share", [0.25, 1, 4])
def test_gradients_are_clipped_as_torch_clips_them(share: float) -> None:
    norm, whole = gradients(1e9)
    clip = share * norm.item()
    expected = [nn.Parameter(part) for part in whole.values()]
    for part in expected:
        part.grad = part.detach().clone()
    nn.utils.clip_grad_norm_(expected, clip)
    again, found = gradients(clip)
    assert again == norm
    for (name, part), reference in zip(found.items(), expected, strict=True):
        assert reference.grad is not None
        assert torch.equal(part, reference.grad), name
    total = torch.cat([part.flatten() for part in found.values()]).norm()
    torch.testing.assert_close(total, norm.clamp(max=clip))
