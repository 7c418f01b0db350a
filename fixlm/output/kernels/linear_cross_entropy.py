"""Cross-entropy of a linear map without ever holding its logits for all tokens.

With features x (n, D), weight W (V, D) and bias b (V,), token k with target t costs

    nll_k = log Σ_j exp(w_j · x_k + b_j) − w_t · x_k − b_t        (nats)

and its gradient for the logits is softmax − one-hot. Both are had from one tile of logits, so the forward pass computes
the gradients at once and a tile is the largest array there ever is. The softmax is never divided by its normaliser z:
with e = exp(logits − maximum), the gradients Σ_j e_j w_j / z − w_t and e xᵀ / z divide a (k, D) array, not a (V, k)
one.
For a weight that needs no gradient (a fixed output matrix) the product that would make one is skipped. Where only a
head of some rows is trained, that product is taken for those rows alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fixlm.output.kernels.arrays import as_numpy, scratch
from fixlm.output.kernels.threads import in_threads

TILE_BYTES = 64 * 2**20  # half a thousand tokens of a large vocabulary: fewer make a slow matrix product
MINIMUM_TILE_TOKENS = 64
MULTIPLE = 16  # tokens: rows of a tile then begin on cache lines, which the product and the kernel are faster for


class Head(NamedTuple):
    """The rows of a weight that are trained where the others are fixed.

    Args:
        added: (M, D), what is added to those rows.
        ids: (M,) which rows they are, no two alike.
        places: (V,) the place of each row of the weight in ``added``, −1 for the fixed ones.
    """

    added: Tensor
    ids: Tensor
    places: Tensor

    @contextmanager
    def put_into(self, weight: Tensor) -> Iterator[None]:
        """Adds to the rows of a weight (V, D) until the block ends; then it has its own again, bit for bit.

        A copy of the whole would take as long as a tenth of the products.
        """
        own = weight.index_select(0, self.ids)  # faster than indexing
        rows = own.to(self.added.dtype) + self.added.detach()
        weight.index_copy_(0, self.ids, rows.to(weight.dtype))
        try:
            yield
        finally:
            weight.index_copy_(0, self.ids, own)


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    precision: torch.dtype | None = None,
    head: Head | None = None,
    sizes: Sequence[int] | None = None,
) -> Tensor:
    """Mean negative log-likelihood of the targets, differentiable in features, weight, bias and what the head adds.

    Args:
        features: (n, D).
        weight: (V, D); or (K or more, V, D), one for each group of tokens, without a gradient.
        bias: (V,).
        targets: (n,) ids.
        precision: type in which the matrix products are taken; that of the features if None.
        head: rows that are trained; the weight itself has no gradient then.
        sizes: how many tokens each group has, which stand in order of groups; None: there is one weight.

    Returns:
        A scalar, nats a token.
    """
    added = None if head is None else head.added
    loss: Tensor = _LinearCrossEntropy.apply(features, weight, bias, targets, precision, added, head, sizes)
    return loss


@torch.no_grad()
def linear_nll(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: torch.dtype | None = None
) -> Tensor:
    """Negative log-likelihood of each target: (n,) nats. Arguments as in `linear_cross_entropy`; no gradient."""
    nll = features.new_empty(len(targets))
    for tile in _tiles(features, _in(weight, precision), bias, targets):
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
    size = min(max(MINIMUM_TILE_TOKENS, size), tokens)
    return -(-size // MULTIPLE) * MULTIPLE


def _tiles(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, memory: Tensor | None = None
) -> Iterator[_Tile]:
    """Successive tiles of tokens; the product with the weight is taken in the weight's type.

    Args:
        memory: what a tile takes, or more, to be used again by the next call.
    """
    size = _tile_tokens(len(features), len(weight), features.element_size())
    if memory is None:
        memory = scratch(weight, len(weight), size)
    buffer = memory.flatten()[: len(weight) * size].view(len(weight), size)  # one for all tiles
    softmax = _softmax_by_kernel if _kernel_fits(features, weight) else _softmax_by_torch
    for start in range(0, len(features), size):
        rows = slice(start, min(start + size, len(features)))
        part = features[rows].to(weight.dtype)
        if padding := size - len(part):  # of the last tile
            part = nn.functional.pad(part, (0, 0, 0, padding))
        # W xᵀ rather than x Wᵀ: with many more words than tokens in a tile this order is half as fast again.
        torch.mm(weight, part.t(), out=buffer)
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
    return maximum[:tokens] + normaliser[:tokens].log() - chosen, normaliser


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
    on_cpu = features.device.type == "cpu" and features.dtype in (torch.float32, torch.float64)
    return on_cpu and weight.dtype in (features.dtype, torch.bfloat16)


def _in(weight: Tensor, precision: torch.dtype | None) -> Tensor:
    return weight if precision is None else weight.to(precision)


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
    ) -> Tensor:
        total = features.new_zeros(())
        gradients = [
            torch.zeros_like(tensor) if tensor is not None and needed else None
            for tensor, needed in zip(
                (features, weight, bias, added), (*ctx.needs_input_grad[:3], ctx.needs_input_grad[5]), strict=True
            )
        ]
        grad_features, grad_weight, grad_bias, grad_added = gradients
        for weight_in_use, rows, (_, nll, exponentials, normaliser, padded) in _group_tiles(
            features, weight, bias, targets, precision, head, sizes
        ):
            total += nll.sum()
            chosen, inverse = targets[rows], 1 / normaliser
            if grad_bias is not None:
                factors = nn.functional.pad(inverse, (0, padded.shape[1] - len(inverse)))
                grad_bias += (padded @ factors.to(padded.dtype)).to(bias.dtype)
                grad_bias.index_add_(0, chosen, -torch.ones_like(inverse))
            if grad_features is not None:
                product = (exponentials.t() @ weight_in_use).to(features.dtype)
                grad_features[rows] = product * inverse[:, None] - weight_in_use[chosen]
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
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_loss / ctx.tokens
        *gradients, added = (None if grad is None else grad * scale for grad in ctx.saved_tensors)
        return *gradients, None, None, added, None, None


def _group_tiles(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    precision: torch.dtype | None,
    head: Head | None,
    sizes: Sequence[int] | None,
) -> Iterator[tuple[Tensor, slice, _Tile]]:
    """The tiles of each group with the weight in use and the place of their tokens, all in the same memory."""
    weights, sizes = ([weight], [len(targets)]) if sizes is None else (weight, sizes)
    kind, size = precision or features.dtype, weight.shape[-2]
    tokens = max(_tile_tokens(each, size, features.element_size()) for each in sizes)
    like = weight.new_empty(0, dtype=kind)
    memory = scratch(like, size, tokens)  # fresh memory for each group would cost more than what is done in it
    start = 0
    for own, count in zip(weights, sizes, strict=False):
        if count == 0:
            continue
        in_use = own.detach().to(kind)
        part = slice(start, start + count)
        with nullcontext() if head is None else head.put_into(in_use):
            for tile in _tiles(features[part], in_use, bias, targets[part], memory):
                yield in_use, slice(start + tile.rows.start, start + tile.rows.stop), tile
        start += count


def _add_product(grad_weight: Tensor, exponentials: Tensor, scaled: Tensor) -> None:
    if exponentials.dtype == grad_weight.dtype:
        grad_weight.addmm_(exponentials, scaled)
    else:
        grad_weight += exponentials @ scaled.to(exponentials.dtype)
