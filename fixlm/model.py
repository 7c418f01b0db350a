"""The language model: input embedding → 2-layer LSTM with locked dropout → output layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fixlm.output.base import OutputLayer
from fixlm.output.learned import EMBEDDING_INIT
from fixlm.precision import multiplies_bfloat16

NUM_LAYERS = 2

State = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, each (layers, B, H)."""


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout with one mask for all time steps (Gal and Ghahramani 2016; Merity, Keskar and Socher 2017).

    Shape:
        x: (T, B, F) → (T, B, F); the mask is (1, B, F).
    """
    if not training or rate == 0:
        return x
    keep = 1 - rate
    # Drawn on the CPU whatever the device, so that one random state is all that a checkpoint needs.
    mask = torch.empty(1, *x.shape[1:], dtype=x.dtype).bernoulli_(keep).div_(keep)
    return x * mask.to(x.device)


class InputEmbedding(nn.Embedding):
    """`torch.nn.Embedding` whose gradient, V rows of which a step touches few, stays in the same memory.

    Fresh memory for it costs several times as much as to clear the old. `recycle_gradient` before a step gives back
    what the step before used.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spare: list[Tensor] = []

    def recycle_gradient(self) -> None:
        """Drops the gradient and keeps its memory for the next one."""
        if self.weight.grad is not None:
            self._spare[:] = [self.weight.grad]
            self.weight.grad = None

    def forward(self, ids: Tensor) -> Tensor:
        """(…) → (…, E)."""
        if self.weight.device.type != "cpu" or not self.weight.requires_grad:
            return super().forward(ids)
        rows: Tensor = _Lookup.apply(self.weight, ids, self._spare)
        return rows


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, spare: list[Tensor]) -> Tensor:
        ctx.save_for_backward(weight, ids)
        ctx.spare = spare
        return nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        weight, ids = ctx.saved_tensors
        # Taken out of the list: autograd keeps a gradient as it is only if nobody else holds it.
        gradient = ctx.spare.pop().zero_() if ctx.spare else torch.zeros_like(weight)
        return gradient.index_add_(0, ids.flatten(), grad.flatten(0, -2)), None, None


class LockedDropoutLSTM(nn.LSTM):
    """`torch.nn.LSTM` with locked dropout between its layers; its parameters have the names of that class."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = NUM_LAYERS, between: float = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.between = between

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:  # type: ignore[override]
        """(T, B, E), state → (T, B, H), state."""
        hidden, cell = [], []
        for layer, (h, c) in enumerate(zip(*state, strict=True)):
            if layer > 0:
                x = locked_dropout(x, self.between, self.training)
            weights = [getattr(self, name) for name in self._all_weights[layer]]
            layer_state = (h.unsqueeze(0), c.unsqueeze(0))
            x, h, c = torch.lstm(x, layer_state, weights, True, 1, 0.0, self.training, False, False)
            hidden.append(h)
            cell.append(c)
        return x, (torch.cat(hidden), torch.cat(cell))


class LanguageModel(nn.Module):
    """A 2-layer LSTM language model.

    Args:
        input_embedding: (V, E).
        hidden_size: H.
        output: the output layer, H → V.
        embed_size: what the LSTM reads; a learned projection joins it to E where they differ.
        dropout_input, dropout_between, dropout_output: rates of locked dropout.
        precision: type of the LSTM's products in training; bfloat16 only where the device has them.
    """

    def __init__(
        self,
        input_embedding: InputEmbedding,
        hidden_size: int,
        output: OutputLayer,
        *,
        embed_size: int | None = None,
        dropout_input: float = 0.0,
        dropout_between: float = 0.0,
        dropout_output: float = 0.0,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.precision = precision
        dim = input_embedding.embedding_dim
        embed_size = embed_size or dim
        self.input_embedding = input_embedding
        self.input_projection = nn.Linear(dim, embed_size, bias=False) if dim != embed_size else None
        self.lstm = LockedDropoutLSTM(embed_size, hidden_size, between=dropout_between)
        self.output = output
        self.dropout_input = dropout_input
        self.dropout_output = dropout_output

    def start_state(self, batch_size: int) -> State:
        """The state before the first word: zeros, (layers, B, H) twice."""
        shape = (self.lstm.num_layers, batch_size, self.lstm.hidden_size)
        device = self.input_embedding.weight.device
        return torch.zeros(shape, device=device), torch.zeros(shape, device=device)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B) ids, state → hidden states (T, B, H), state."""
        x = self.input_embedding(ids)  # (T, B, E)
        if self.input_projection is not None:
            x = self.input_projection(x)
        x = locked_dropout(x, self.dropout_input, self.training)
        low = self.training and self.precision == torch.bfloat16 and multiplies_bfloat16(x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            x, state = self.lstm(x, state)
        if low:
            x, state = x.float(), (state[0].float(), state[1].float())
        return locked_dropout(x, self.dropout_output, self.training), state

    def loss(self, ids: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Mean nats a target: (T, B) ids, (T, B) targets, state → scalar, state."""
        hidden, state = self(ids, state)
        return self.output.loss(hidden.flatten(0, 1), targets.flatten()), state

    def parameter_counts(self) -> dict[str, int]:
        """Numbers that are trained, that are fixed (in either matrix), and that the output layer trains."""
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        fixed = sum(p.numel() for p in self.parameters() if not p.requires_grad)
        shared = {p.data_ptr() for p in self.parameters()}
        fixed += sum(b.numel() for b in self.output.buffers() if b.data_ptr() not in shared)
        output = sum(p.numel() for p in self.output.parameters() if p.requires_grad)
        return {"trainable": trainable, "fixed": fixed, "output_trainable": output}


def input_embedding(
    vocabulary_size: int, embed_size: int, vectors: Tensor | None = None, *, frozen: bool = False
) -> InputEmbedding:
    """A learned embedding (V, E), or one that starts at (or, frozen, stays at) the given vectors."""
    if vectors is not None:
        start = vectors if frozen else vectors.clone()
        embedding: InputEmbedding = InputEmbedding.from_pretrained(start, freeze=frozen)
        return embedding
    embedding = InputEmbedding(vocabulary_size, embed_size)
    nn.init.uniform_(embedding.weight, -EMBEDDING_INIT, EMBEDDING_INIT)
    return embedding
