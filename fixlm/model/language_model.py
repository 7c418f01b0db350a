"""The language model: input embedding → LSTM with locked dropout and weight drop → output layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.output.layer import OutputLayer
from fixlm.output.learned import EMBEDDING_INIT

NUM_LAYERS = 2

State = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, each (layers, B, H); 0 in the columns that a shorter layer does not have."""


def dropout_mask(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    """0 with probability ``rate``, else 1 / (1 − rate), of the type and on the device of ``like``."""
    keep = 1 - rate
    # Drawn on the CPU whatever the device, so that one random state is all that a checkpoint needs.
    return torch.empty(shape, dtype=like.dtype).bernoulli_(keep).div_(keep).to(like.device)


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout with one mask for all time steps (Gal and Ghahramani 2016; Merity, Keskar and Socher 2017).

    Shape:
        x: (T, B, F) → (T, B, F); the mask is (1, B, F).
    """
    if not training or rate == 0:
        return x
    return x * dropout_mask((1, *x.shape[1:]), rate, x)


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
    """`torch.nn.LSTM` with locked dropout and weight drop; its parameters have the names of that class.

    Args:
        input_size: E.
        hidden_size: H, units of each layer.
        last_hidden_size: units of the last layer; None: H.
        between: rate of locked dropout between the layers.
        weight_drop: rate of DropConnect on the recurrent weights (Merity, Keskar and Socher 2017): in
            training each of them is 0 for a whole window with this probability.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = NUM_LAYERS,
        between: float = 0.0,
        *,
        last_hidden_size: int | None = None,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.between, self.weight_drop = between, weight_drop
        self.sizes = [hidden_size] * (num_layers - 1) + [last_hidden_size or hidden_size]
        if self.sizes[-1] != hidden_size:
            self._resize_last(input_size if num_layers == 1 else hidden_size, self.sizes[-1])

    def _resize_last(self, inputs: int, units: int) -> None:
        """Gives the last layer other weights, uniform in ±1/√units as torch has them."""
        shapes = [(4 * units, inputs), (4 * units, units), (4 * units,), (4 * units,)]
        for name, shape in zip(self._all_weights[-1], shapes, strict=True):
            start = torch.empty(shape).uniform_(-(units**-0.5), units**-0.5)
            setattr(self, name, nn.Parameter(start))

    def flatten_parameters(self) -> None:
        """Lays the weights out for cuDNN, as the base class does, where all layers have one size."""
        if len({*getattr(self, "sizes", ())}) <= 1:
            super().flatten_parameters()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:  # type: ignore[override]
        """(T, B, E), state → (T, B, units of the last layer), state."""
        hidden, cell = [], []
        for layer, (h, c) in enumerate(zip(*state, strict=True)):
            if layer > 0:
                x = locked_dropout(x, self.between, self.training)
            units = self.sizes[layer]
            layer_state = (h[None, :, :units].contiguous(), c[None, :, :units].contiguous())
            x, h, c = torch.lstm(
                x, layer_state, self._weights(layer), True, 1, 0.0, self.training, False, False
            )
            filling = (0, state[0].shape[-1] - units)
            hidden.append(nn.functional.pad(h, filling))
            cell.append(nn.functional.pad(c, filling))
        return x, (torch.cat(hidden), torch.cat(cell))

    def _weights(self, layer: int) -> list[Tensor]:
        """Input, recurrent weights and the two biases; in training with the recurrent ones dropped."""
        weights = [getattr(self, name) for name in self._all_weights[layer]]
        if self.training and self.weight_drop > 0:
            weights[1] = weights[1] * dropout_mask(weights[1].shape, self.weight_drop, weights[1])
        return weights


class LanguageModel(nn.Module):
    """An LSTM language model.

    Args:
        input_embedding: (V, E).
        hidden_size: H.
        output: the output layer, from the units of the last LSTM layer to V.
        embed_size: what the LSTM reads; a learned projection joins it to E where they differ.
        num_layers: LSTM layers.
        last_hidden_size: units of the last of them; None: H.
        dropout_input, dropout_between, dropout_output: rates of locked dropout.
        dropout_embedding: rate at which words lose their input vector for a window (Gal and Ghahramani 2016).
        weight_drop: rate of DropConnect on the recurrent weights.
        precision: type of the LSTM's products in training; bfloat16 only where the device has them.
    """

    def __init__(
        self,
        input_embedding: InputEmbedding,
        hidden_size: int,
        output: OutputLayer,
        *,
        embed_size: int | None = None,
        num_layers: int = NUM_LAYERS,
        last_hidden_size: int | None = None,
        dropout_input: float = 0.0,
        dropout_between: float = 0.0,
        dropout_output: float = 0.0,
        dropout_embedding: float = 0.0,
        weight_drop: float = 0.0,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.precision = precision
        dim = input_embedding.embedding_dim
        embed_size = embed_size or dim
        self.input_embedding = input_embedding
        self.input_projection = nn.Linear(dim, embed_size, bias=False) if dim != embed_size else None
        self.lstm = LockedDropoutLSTM(
            embed_size,
            hidden_size,
            num_layers,
            dropout_between,
            last_hidden_size=last_hidden_size,
            weight_drop=weight_drop,
        )
        self.output = output
        self.dropout_input = dropout_input
        self.dropout_output = dropout_output
        self.dropout_embedding = dropout_embedding

    def start_state(self, batch_size: int) -> State:
        """The state before the first word: zeros, (layers, B, H) twice."""
        shape = (self.lstm.num_layers, batch_size, max(self.lstm.sizes))
        device = self.input_embedding.weight.device
        return torch.zeros(shape, device=device), torch.zeros(shape, device=device)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B) ids, state → hidden states (T, B, H) after dropout, state."""
        x, state = self.hidden(ids, state)
        return locked_dropout(x, self.dropout_output, self.training), state

    def hidden(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B) ids, state → what the last LSTM layer gives (T, B, H), before any dropout of it, state."""
        x = self.input_embedding(ids)  # (T, B, E)
        if self.input_projection is not None:
            x = self.input_projection(x)
        rows = self.output.input_rows(ids)
        if rows is not None:
            x = x + rows
        if self.training and self.dropout_embedding > 0:
            words = dropout_mask((self.input_embedding.num_embeddings, 1), self.dropout_embedding, x)
            x = x * words[ids]  # (T, B, 1): a word is dropped wherever it stands in the window
        x = locked_dropout(x, self.dropout_input, self.training)
        low = self.training and self.precision == torch.bfloat16 and multiplies_bfloat16(x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            x, state = self.lstm(x, state)
        return (x.float(), (state[0].float(), state[1].float())) if low else (x, state)

    def loss(self, ids: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Mean nats a target: (T, B) ids, (T, B) targets, state → scalar, state."""
        nats, _, state = self.regularized_loss(ids, targets, state)
        return nats, state

    def regularized_loss(
        self, ids: Tensor, targets: Tensor, state: State, ar: float = 0.0, tar: float = 0.0
    ) -> tuple[Tensor, Tensor, State]:
        """Mean nats a target, and what training minimises: those and the penalties on the last layer's states h.

        AR is α times the mean square of m ∘ h_t, with m the mask of the dropout, and TAR β times that of h_t − h_{t−1}
        (Merity, McCann and Socher 2017, "Revisiting activation regularization for language RNNs"; the paper has the
        norm, the authors' code the mean square).

        Args:
            ids, targets: (T, B).
            ar, tar: α and β.

        Returns:
            The nats, the nats with both penalties, and the state.
        """
        raw, state = self.hidden(ids, state)
        hidden = locked_dropout(raw, self.dropout_output, self.training)
        nats = self.output.loss(hidden.flatten(0, 1), targets.flatten())
        whole = nats
        if ar > 0:
            whole = whole + ar * hidden.square().mean()
        if tar > 0 and len(raw) > 1:
            whole = whole + tar * (raw[1:] - raw[:-1]).square().mean()
        return nats, whole, state

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
