"""Cross-entropy as a training loop expects it, around the kernels: shapes, ignored targets, reductions, types.

The kernels take (n, H) states, n valid ids and one type of number. Everything else that `torch.nn.functional.
cross_entropy` accepts of logits is done here, for the output layers and for `linear_cross_entropy` alike.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from embeddings.errors import InputError, unknown_name
from fixlm.output.kernels import linear_cross_entropy as kernel
from fixlm.output.kernels.head_and_tail import Head, Tail

REDUCTIONS = ("mean", "sum", "none")
LOW_TYPES = (torch.bfloat16, torch.float16)
TILE_BYTES = 64 * 2**20
"""Of the logits that are held at a time where each target's loss has a gradient of its own."""


class Arithmetic(NamedTuple):
    """What a layer computes for a flat list of n tokens."""

    loss: Callable[[Tensor, Tensor], Tensor]  # (n, H), (n,) → mean nats
    nll: Callable[[Tensor, Tensor], Tensor]  # (n, H), (n,) → (n,) nats, no gradient
    logits: Callable[[Tensor], Tensor]  # (n, H) → (n, V)


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    precision: torch.dtype | None = None,
) -> Tensor:
    """`F.cross_entropy(F.linear(features, weight, bias), targets)` that never holds all logits.

    nll = log Σ_j exp(w_j · x + b_j) − w_t · x − b_t. The gradients come out of the same pass, and a weight that needs
    none costs nothing: a fixed output matrix saves a third of the arithmetic.

    Args:
        features: (…, D) x.
        weight: (V, D); of the type of the features, or bfloat16.
        bias: (V,), or None.
        targets: (…) ids from 0 to V − 1, or ``ignore_index``.
        ignore_index: targets that count nothing; None: there are none, and nobody looks for them.
        reduction: ``mean`` over the targets that count, ``sum``, or ``none``, which has a gradient too but computes the
            logits twice.
        precision: type of the matrix products; that of the weight if None, that of autocast inside it.

    Returns:
        Nats: a scalar, or (…) for ``none``; float32 where the features have a lower type.

    Raises:
        InputError: a shape, a type or a target does not fit.

    >>> x, weight, bias = torch.randn(2, 3, 8), torch.randn(50, 8), torch.zeros(50)
    >>> targets = torch.tensor([[4, 9, -100], [0, 49, 7]])
    >>> loss = linear_cross_entropy(x, weight, bias, targets)
    >>> expected = F.cross_entropy((x @ weight.t() + bias).flatten(0, 1), targets.flatten())
    >>> torch.testing.assert_close(loss, expected)
    """
    if weight.dim() != 2:
        raise InputError("weight", "not a matrix", found=list(weight.shape), expected="[V, D]")
    require_features(features, weight.shape[1])
    if weight.dtype not in (features.dtype, torch.bfloat16) and autocast_type(features) is None:
        raise InputError("weight", "not of the type of the features", found=weight.dtype, expected=features.dtype)
    if bias is None:
        bias = features.new_zeros(len(weight))
    elif bias.shape != weight.shape[:1]:
        raise InputError("bias", "not one for each word", found=list(bias.shape), expected=[len(weight)])
    elif widened(bias).dtype != widened(features).dtype:
        raise InputError("bias", "not of the type of the features", found=bias.dtype, expected=features.dtype)
    bias = bias.contiguous()
    parts = Arithmetic(
        lambda x, ids: dense_loss(x, weight, bias, ids, precision),
        lambda x, ids: dense_nll(x, weight, bias, ids),
        lambda x: F.linear(x, weight.to(x.dtype), bias.to(x.dtype)),
    )
    return cross_entropy(parts, features, targets, len(weight), ignore_index, reduction)


def cross_entropy(
    parts: Arithmetic, hidden: Tensor, targets: Tensor, words: int, ignore_index: int | None, reduction: str
) -> Tensor:
    """The loss of a layer; arguments and errors as of `linear_cross_entropy`.

    Args:
        words: V.
    """
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", "reduction", str(reduction), REDUCTIONS)
    rows, ids = flat(hidden, targets)
    counted = None  # all
    if ignore_index is not None and not bool((found := ids != ignore_index).all()):
        counted = found
        rows, ids = rows[counted], ids[counted]
    require_words(ids, words)
    if reduction == "none":
        nats = _each(parts, rows, ids, words)
        if counted is not None:
            nats = nats.new_zeros(len(counted)).masked_scatter(counted, nats)
        return nats.view(targets.shape)
    if not len(ids):  # as torch has it: the sum of no losses is 0, their mean is not a number
        total = widened(parts.logits(rows)).sum()  # of none, but with the gradients of all parameters
        return total / len(ids) if reduction == "mean" else total
    mean = parts.loss(rows, ids)
    return mean if reduction == "mean" else mean * len(ids)


def _each(parts: Arithmetic, rows: Tensor, ids: Tensor, words: int) -> Tensor:
    """(n,) nats. Their gradients differ by a factor that only the backward pass knows, so it computes logits again."""
    if not len(ids):
        return widened(parts.logits(rows)).sum(-1)
    if not torch.is_grad_enabled():
        return parts.nll(rows, ids)

    def nats(tile: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(widened(parts.logits(tile)), targets, reduction="none")

    size = max(1, TILE_BYTES // (4 * words))
    tiles = zip(rows.split(size), ids.split(size), strict=True)
    return torch.cat([checkpoint(nats, *tile, use_reentrant=False, preserve_rng_state=False) for tile in tiles])


def dense_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    precision: torch.dtype | None = None,
    head: Head | None = None,
    sizes: Sequence[int] | None = None,
    tail: Tail | None = None,
) -> Tensor:
    """Mean nats of (n, D) features in float32 or better, whatever the types; arguments as of the kernel."""
    if weight.dtype == torch.bfloat16 and precision is None:
        precision = weight.dtype
    precision = autocast_type(features) or precision
    # A trained weight sums its gradient over tiles, for which 8 bits of mantissa are too few.
    used = weight if weight.dtype == torch.bfloat16 and not weight.requires_grad else widened(weight)
    tail = tail and tail._replace(features=widened(tail.features))
    with without_autocast(features):
        return kernel.linear_cross_entropy(
            widened(features), used, widened(bias), targets, precision, head, sizes, tail
        )


def dense_nll(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, tail: Tail | None = None) -> Tensor:
    """(n,) nats of (n, D) features, no gradient."""
    used = weight if weight.dtype == torch.bfloat16 else widened(weight)
    tail = tail and Tail(widened(tail.features), tail.weight.to(used.dtype))
    with without_autocast(features):
        return kernel.linear_nll(widened(features), used, widened(bias), targets, tail=tail)


def require_features(hidden: Tensor, size: int) -> None:
    """Raises InputError unless these are floating-point numbers (…, ``size``)."""
    if not isinstance(hidden, Tensor):
        raise InputError("hidden", "not a tensor", found=type(hidden).__name__, fix="torch.as_tensor(…)")
    if hidden.dim() == 0 or hidden.shape[-1] != size or not hidden.is_floating_point():
        found = f"{list(hidden.shape)} of {hidden.dtype}"
        expected = f"[…, {size}] of floating point"
        raise InputError("hidden", "not the features that this layer reads", found=found, expected=expected)


def flat(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(…, H), (…) → (n, H), (n,) int64.

    Raises:
        InputError: the targets are no whole numbers, or not one for each hidden state.
    """
    if not isinstance(targets, Tensor):
        raise InputError("targets", "not a tensor", found=type(targets).__name__, fix="torch.as_tensor(…)")
    if targets.shape != hidden.shape[:-1]:
        found, expected = list(targets.shape), list(hidden.shape[:-1])
        raise InputError("targets", "a target for each hidden state is needed", found=found, expected=expected)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InputError("targets", "not the ids of words", found=targets.dtype, expected="whole numbers")
    return hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1).long().contiguous()


def require_words(ids: Tensor, words: int, where: str = "targets", what: str = "word") -> None:
    """Raises InputError where an id is none of 0 … ``words`` − 1: the kernels check nothing."""
    # On a GPU the look at the largest would wait for the device; the indexing of torch's own kernels refuses it there.
    if ids.device.type == "cpu" and ids.numel():
        low, high = (int(each) for each in ids.aminmax())
        if low < 0 or high >= words:
            wrong = low if low < 0 else high
            raise InputError(where, f"no such {what}", found=wrong, expected=f"0 to {words - 1}")


def require_count(where: str, value: Any) -> int:
    """The value as an int; raises InputError, which names ``where``, unless it is a whole number of 1 or more."""
    try:
        if (count := operator.index(value)) >= 1:
            return count
    except TypeError:
        pass
    raise InputError(where, "not a possible number", found=value, expected="a whole number, 1 or more")


def as_tensor(values: Any, where: str) -> Tensor:
    """Numbers of any kind as a tensor.

    Raises:
        InputError: they are no numbers; names ``where``.
    """
    try:  # torch takes no array that is read backwards
        return torch.as_tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(where, "not numbers", found=type(values).__name__, expected="a tensor or an array") from None


def wrong_ids(ids: Tensor | None, vocabulary_size: int) -> str | None:
    """What is wrong with ids of different words that a file holds; None if nothing is."""
    if ids is None or not ids.numel():
        return None
    if ids.dim() != 1:
        return f"the ids do not stand in one row, but in {list(ids.shape)}"
    if ids.dtype != torch.int64:
        return f"ids are int64, not {ids.dtype}"
    if ids.min() < 0 or ids.max() >= vocabulary_size or len(ids.unique()) < ids.numel():
        return f"the ids are not those of different words among {vocabulary_size:,}"
    return None


def require_head(ids: Tensor, vocabulary_size: int) -> None:
    """Raises InputError unless these are the ids of one or more words."""
    if wrong := wrong_ids(ids, vocabulary_size) or (not len(ids) and "there is no word"):
        raise InputError("head_words", wrong, found=f"{len(ids):,} ids")


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float32 where its type is lower, which the sums over a vocabulary need; else as it is."""
    return tensor.float() if tensor.dtype in LOW_TYPES else tensor


def autocast_type(tensor: Tensor) -> torch.dtype | None:
    """The type that autocast takes products of this tensor in; None where there is no autocast."""
    kind = tensor.device.type
    if not torch.is_autocast_enabled(kind) or tensor.dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(kind)


def without_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Switches autocast off for a kernel, which chooses its types itself."""
    kind = tensor.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()
