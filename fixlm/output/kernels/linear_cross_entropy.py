"""Cross-entropy of a linear map without ever holding its logits for all tokens.

With features x (n, D), weight W (V, D) and bias b (V,), token k with target t costs

    nll_k = log Σ_j exp(w_j · x_k + b_j) − w_t · x_k − b_t        (nats)

and its gradient for the logits is softmax − one-hot. Both are had from one tile of logits, so the forward pass computes
the gradients at once and a tile is the largest array there ever is. The softmax is never divided by its normaliser z:
with e = exp(logits − maximum), the gradients Σ_j e_j w_j / z − w_t and e xᵀ / z divide a (k, D) array, not a (V, k)
one.
For a weight that needs no gradient (a fixed output matrix) the product that would make one is skipped. Where only a
head of some rows is trained, that product is taken for those rows alone. A tail of further rows may be shorter, with
features of its own: the products go into one tile, whose softmax is over all rows.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fixlm.output.kernels.arrays import as_numpy, scratch
from fixlm.output.kernels.gradients import once, without_graph
from fixlm.output.kernels.head_and_tail import Head, Tail
from fixlm.output.kernels.threads import in_threads

TILE_BYTES = 64 * 2**20  # half a thousand tokens of a large vocabulary: fewer make a slow matrix product
MINIMUM_TILE_TOKENS = 64
MULTIPLE = 16  # tokens: rows of a tile then begin on cache lines, which the product and the kernel are faster for


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    precision: torch.dtype | None = None,
    head: Head | None = None,
    sizes: Sequence[int] | None = None,
    tail: Tail | None = None,
) -> Tensor:
    """Mean negative log-likelihood of the targets, differentiable in features, weight, bias and what the head adds.

    Args:
        features: (n, D).
        weight: (R, D); or (K or more, R, D), one for each group of tokens, without a gradient. R is V without a tail.
        bias: (V,).
        targets: (n,) ids.
        precision: type in which the matrix products are taken; that of the features if None.
        head: rows that are trained; the weight itself has no gradient then.
        sizes: how many tokens each group has, which stand in order of groups; None: there is one weight.
        tail: the words R … V − 1; the weight itself has no gradient then.

    Returns:
        A scalar, nats a token.
    """
    trained = features, weight, bias, head and head.added, tail and tail.features
    features, weight, bias, added, short = without_graph(*trained)
    rest = precision, added, head, sizes, short, tail and tail.weight
    loss: Tensor = _LinearCrossEntropy.apply(features, weight, bias, targets, *rest)
    return loss


@torch.no_grad()
def linear_nll(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, tail: Tail | None = None) -> Tensor:
    """Negative log-likelihood of each target: (n,) nats. Arguments as in `linear_cross_entropy`; no gradient."""
    nll = features.new_empty(len(targets))
    for tile in _tiles(features, weight, bias, targets, tail=tail):
        nll[tile.rows] = tile.nll
    return nll


class _Tile(NamedTuple):
    """What is known of k tokens: e and z are as above."""

    rows: slice
    nll: Tensor  # (k,)
    exponentials: Tensor  # e, (V, k) in the weight's type, overwritten by the next tile
    normaliser: Tensor  # z, (k,)
    padded: Tensor  # e with the columns that fill the tile up; in one piece, which some products are faster for


def _tile_tokens(tokens: int, vocabulary_size: int, bytes_each: int) -> int:
    """How many of so many tokens a tile has; bytes of a logit in the type of the features."""
    size = TILE_BYTES // (vocabulary_size * bytes_each)
    size = min(max(MINIMUM_TILE_TOKENS, size), max(tokens, 1))
    return -(-size // MULTIPLE) * MULTIPLE


def _tiles(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    memory: Tensor | None = None,
    tail: Tail | None = None,
) -> Iterator[_Tile]:
    """Successive tiles of tokens; the product with the weight is taken in the weight's type.

    Args:
        memory: what a tile takes, or more, to be used again by the next call.
    """
    size = _tile_tokens(len(features), len(bias), features.element_size())
    if memory is None:
        memory = scratch(weight, len(bias), size)
    buffer = memory.flatten()[: len(bias) * size].view(len(bias), size)  # one for all tiles
    softmax = _softmax_by_kernel if _kernel_fits(features, weight) else _softmax_by_torch
    blocks = [Tail(features, weight), *([] if tail is None else [tail])]
    for start in range(0, len(features), size):
        rows = slice(start, min(start + size, len(features)))
        for block, place in zip(blocks, buffer.split([len(block.weight) for block in blocks]), strict=True):
            part = block.features[rows].to(block.weight.dtype)
            if padding := size - len(part):  # of the last tile
                part = nn.functional.pad(part, (0, 0, 0, padding))
            # W xᵀ rather than x Wᵀ: with many more words than tokens in a tile this order is half as fast again.
            torch.mm(block.weight, part.t(), out=place)
        nll, normaliser = softmax(buffer, bias, targets[rows])
        tokens = rows.stop - rows.start
        yield _Tile(rows, nll, buffer[:, :tokens], normaliser[:tokens], buffer)


def _softmax_by_torch(tile: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Turns logits without bias, (V, k), into e; returns the nll of the targets and z. The reference."""
    logits = tile.to(bias.dtype) + bias[:, None]
    chosen = logits.gather(0, targets[None]).squeeze(0)
    maximum = logits.amax(0)
    exponentials = logits.sub_(maximum).exp_()
    normaliser = exponentials.sum(0)
    tile.copy_(exponentials)
    tokens = len(targets)
    return normaliser[:tokens].log() + (maximum[:tokens] - chosen), normaliser


def _softmax_by_kernel(tile: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same on the CPU, in two sweeps instead of eight."""
    from fixlm.output.kernels.softmax import softmax

    nll, normaliser = bias.new_empty(len(targets)), bias.new_empty(tile.shape[1])
    arrays = [as_numpy(tensor) for tensor in (tile, bias, targets)]
    results = nll.numpy(), normaliser.numpy()

    def work(part: slice, thread: int) -> None:
        softmax(*arrays, part.start, part.stop, *results)

    in_threads(work, tile.shape[1], len(tile), MULTIPLE)
    return nll, normaliser


def _kernel_fits(features: Tensor, weight: Tensor) -> bool:
    same = features.dtype == weight.dtype and features.dtype in (torch.float32, torch.float64)
    return features.device.type == "cpu" and (same or (features.dtype, weight.dtype) == (torch.float32, torch.bfloat16))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        precision: torch.dtype | None,
        added: Tensor | None,  # that of the head, as autograd has to see it
        head: Head | None,
        sizes: Sequence[int] | None,
        tail_features: Tensor | None,
        tail_weight: Tensor | None,
    ) -> Tensor:
        total = features.new_zeros(())
        inputs = {0: features, 1: weight, 2: bias, 5: added, 8: tail_features}  # by their place
        gradients = [
            torch.zeros_like(tensor) if tensor is not None and ctx.needs_input_grad[place] else None
            for place, tensor in inputs.items()
        ]
        grad_features, grad_weight, grad_bias, grad_added, grad_tail = gradients
        tail = None if tail_features is None or tail_weight is None else Tail(tail_features, tail_weight)
        for weight_in_use, tail_in_use, rows, (_, nll, exponentials, normaliser, padded) in _group_tiles(
            features, weight, bias, targets, precision, head, sizes, tail
        ):
            total += nll.sum()
            chosen, inverse = targets[rows], 1 / normaliser
            if grad_bias is not None:
                factors = nn.functional.pad(inverse, (0, padded.shape[1] - len(inverse)))
                grad_bias += (padded @ factors.to(padded.dtype)).to(bias.dtype)
                grad_bias.index_add_(0, chosen, -torch.ones_like(inverse))
            if grad_features is not None:
                grad_features[rows] = _towards(exponentials, inverse, weight_in_use, chosen, whole=tail is None)
            if grad_tail is not None and tail_in_use is not None:
                first = len(weight_in_use)
                grad_tail[rows] = _towards(exponentials[first:], inverse, tail_in_use, chosen - first)
            if grad_weight is not None:
                _add_product(grad_weight, exponentials, features[rows] * inverse[:, None])
                grad_weight.index_add_(0, chosen, -features[rows])
            if grad_added is not None and head is not None:
                _add_product(grad_added, exponentials.index_select(0, head.ids), features[rows] * inverse[:, None])
                places = head.places[chosen]
                inside = places >= 0
                grad_added.index_add_(0, places[inside], -features[rows][inside])
        ctx.save_for_backward(*gradients)
        ctx.tokens = len(targets)
        return total / len(targets)

    @staticmethod
    @once
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_loss / ctx.tokens
        *gradients, added, tail = (None if grad is None else grad * scale for grad in ctx.saved_tensors)
        return *gradients, None, None, added, None, None, tail, None


def _towards(exponentials: Tensor, inverse: Tensor, weight: Tensor, targets: Tensor, *, whole: bool = False) -> Tensor:
    """The gradient for the features of a block of rows, Σ_j e_j w_j / z − w_t: (k, D).

    Args:
        exponentials: (R or more, k), of which the first R are those of the block.
        inverse: (k,) 1/z.
        targets: (k,), counted from the first row of the block; those of other blocks are outside of 0 … R − 1.
        whole: there is no other block.
    """
    product = (exponentials[: len(weight)].t() @ weight).to(inverse.dtype) * inverse[:, None]
    if whole:
        return product - weight[targets]
    inside = ((targets >= 0) & (targets < len(weight))).nonzero().squeeze(1)
    return product.index_add_(0, inside, weight[targets[inside]].to(product.dtype), alpha=-1)


def _group_tiles(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    precision: torch.dtype | None,
    head: Head | None,
    sizes: Sequence[int] | None,
    tail: Tail | None,
) -> Iterator[tuple[Tensor, Tensor | None, slice, _Tile]]:
    """The tiles of each group with the weights in use and the place of their tokens, all in the same memory."""
    ends: Iterable[Tensor | None] = itertools.repeat(None)
    if tail is not None:
        ends = tail.weight if sizes is not None else [tail.weight]
    weights, sizes = ([weight], [len(targets)]) if sizes is None else (weight, sizes)
    kind, size = precision or features.dtype, len(bias)
    tokens = max(_tile_tokens(each, size, features.element_size()) for each in sizes)
    like = weight.new_empty(0, dtype=kind)
    memory = scratch(like, size, tokens)  # fresh memory for each group would cost more than what is done in it
    start = 0
    for own, end, count in zip(weights, ends, sizes, strict=False):
        if count == 0:
            continue
        in_use = own.data.to(kind)  # not `detach`: what the head adds for a moment is no change to autograd
        part = slice(start, start + count)
        rest = None if tail is None or end is None else Tail(tail.features[part], end.to(kind))
        with nullcontext() if head is None else head.put_into(in_use):
            for tile in _tiles(features[part], in_use, bias, targets[part], memory, rest):
                place = slice(start + tile.rows.start, start + tile.rows.stop)
                yield in_use, None if rest is None else rest.weight, place, tile
        start += count


def _add_product(grad_weight: Tensor, exponentials: Tensor, scaled: Tensor) -> None:
    if exponentials.dtype == grad_weight.dtype:
        grad_weight.addmm_(exponentials, scaled)
    else:
        grad_weight += exponentials @ scaled.to(exponentials.dtype)
