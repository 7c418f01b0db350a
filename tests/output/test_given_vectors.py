"""The vectors that a fixed layer is given: of any type, read-only, or trained elsewhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fixlm.errors import InputError
from fixlm.output.clustered import ClusteredOutput
from fixlm.output.fixed import FixedOutput

H, V = 32, 150
CLUSTERS = {"words": torch.arange(V), "learned_words": 20, "tail_clusters": 2}


def vectors() -> Tensor:
    return torch.randn(V, H, generator=torch.Generator().manual_seed(1))


def batch(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, H, generator=generator).to(dtype), torch.randint(0, V, (count,), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"word_scales": True}, {"head_words": torch.arange(5)}, CLUSTERS])
def test_vectors_of_any_type_serve_a_layer_in_float32(dtype: torch.dtype, options: dict[str, Any]) -> None:
    head = (ClusteredOutput if "words" in options else FixedOutput)(H, vectors().to(dtype), **options)
    x, targets = batch(4)
    nats = F.cross_entropy(head(x), targets, reduction="none")
    # Rows in bfloat16 are multiplied as they are, but where one token after another is decoded.
    tolerance = {"rtol": 0.01, "atol": 0.01} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(head.loss(x, targets), nats.mean(), **tolerance)
    torch.testing.assert_close(head.nll(x, targets), nats, **tolerance)
    assert head.top_k(x, 3)[0].dtype == torch.float32


def test_a_trained_head_in_bfloat16_has_logits() -> None:
    head = FixedOutput(H, vectors(), head_words=torch.arange(5)).bfloat16()
    x, targets = batch(4, dtype=torch.bfloat16)
    assert head(x).dtype == torch.bfloat16
    torch.testing.assert_close(head.loss(x, targets), head.nll(x, targets).float().mean(), rtol=0.03, atol=0.03)


def test_vectors_that_are_trained_elsewhere_are_fixed_here() -> None:
    embedding = torch.nn.Embedding(V, H)
    head = FixedOutput(H, embedding.weight)
    for _ in range(2):  # a graph that is kept would be gone the second time
        head.loss(*batch(4)).backward()
    assert embedding.weight.grad is None
    copy.deepcopy(head)


def test_vectors_that_can_only_be_read_are_copied_for_a_trained_head(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", F.normalize(vectors(), dim=1).numpy())
    rows = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    head = FixedOutput(H, rows, head_words=torch.arange(5))
    head.loss(*batch(4)).backward()
    np.testing.assert_array_equal(head.vectors.numpy(), rows)


@pytest.mark.parametrize(("ids", "message"), [([5, 5], "not those of different words"), ([], "there is no word")])
def test_a_head_of_no_words_or_the_same_twice_is_refused(ids: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FixedOutput(H, vectors(), head_words=torch.tensor(ids, dtype=torch.long))
