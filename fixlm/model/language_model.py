"""The language model: input embedding → recurrent core with locked dropout → output layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fixlm.model.bfloat16 import multiplies_bfloat16
from fixlm.model.core import core_class
from fixlm.model.dropout import dropout_mask, locked_dropout

if TYPE_CHECKING:
    from fixlm.model.core import State
    from fixlm.model.embedding import InputEmbedding
    from fixlm.model.folds import WindowFolds
    from fixlm.output.layer import OutputLayer


class LanguageModel(nn.Module):
    """A recurrent language model.

    Args:
        input_embedding: (V, E).
        hidden_size: H.
        output: the output layer, from the units of the last recurrent layer to V.
        embed_size: what the core reads; a learned projection joins it to E where they differ.
        core: name of the recurrent core, see `fixlm.model.core`.
        num_layers: recurrent layers.
        last_hidden_size: units of the last of them; None: H.
        dropout_input, dropout_between, dropout_output: rates of locked dropout.
        dropout_embedding: rate at which words lose their input vector for a window (Gal and Ghahramani 2016).
        weight_drop: rate of DropConnect on the recurrent weights.
        precision: type of the core's products in training; bfloat16 only where the device has them.
    """

    def __init__(
        self,
        input_embedding: InputEmbedding,
        hidden_size: int,
        output: OutputLayer,
        *,
        embed_size: int | None = None,
        core: str = "lstm",
        num_layers: int = 2,
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
        self.core_name = core
        make: Any = core_class(core)
        options = {"last_hidden_size": last_hidden_size or hidden_size, "weight_drop": weight_drop}
        # Under its own name, so that its parameters are called lstm.weight_ih_l0 and so on.
        self.add_module(core, make(embed_size, hidden_size, num_layers, dropout_between, **options))
        self.output = output
        self.dropout_input = dropout_input
        self.dropout_output = dropout_output
        self.dropout_embedding = dropout_embedding

    def start_state(self, batch_size: int) -> State:
        """The state before the first word, which only the core can read."""
        state: State = self.core.start_state(batch_size)
        return state

    @property
    def core(self) -> Any:
        """The recurrent core."""
        return self.get_submodule(self.core_name)

    def state_tensors(self, state: State) -> dict[str, Tensor]:
        """A state by the names that a checkpoint has: ``lstm.hidden`` and so on."""
        names = (f"{self.core_name}.{name}" for name in self.core.STATE)
        return dict(zip(names, state, strict=True))

    def state_from(self, tensors: Mapping[str, Tensor], batch_size: int) -> State:
        """The state that `state_tensors` gave.

        Raises:
            KeyError, ValueError: a tensor is missing, or is not that of such a batch.
        """
        found = []
        for name, like in self.state_tensors(self.start_state(batch_size)).items():
            require_like(name, tensors[name], like)
            found.append(tensors[name].to(like.device))
        return tuple(found)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B) ids, state → hidden states (T, B, H) after dropout, state."""
        x, state = self.hidden(ids, state)
        return locked_dropout(x, self.dropout_output, self.training), state

    def hidden(self, ids: Tensor, state: State, folds: WindowFolds | None = None) -> tuple[Tensor, State]:
        """(T, B) ids, state → what the core gives (T, B, H), before any dropout of it, state.

        Args:
            folds: of the window, in training with cross-fitting.
        """
        x = self.input_embedding(ids)  # (T, B, E)
        shift = None if folds is None else folds.input_shift(ids)
        if shift is not None:
            x = x + shift
        if self.input_projection is not None:
            x = self.input_projection(x).to(x.dtype)  # of which autocast makes another
        rows = self.output.input_rows(ids)
        if rows is not None:
            x = x + rows
        if self.training and self.dropout_embedding > 0:
            words = dropout_mask((self.input_embedding.num_embeddings, 1), self.dropout_embedding, x)
            x = x * words[ids]  # (T, B, 1): a word is dropped wherever it stands in the window
        x = locked_dropout(x, self.dropout_input, self.training)
        low = self.training and self.precision == torch.bfloat16 and multiplies_bfloat16(x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            x, state = self.core(x, state)
        return (x.float(), tuple(part.float() for part in state)) if low else (x, state)

    def loss(self, ids: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Mean nats a target: (T, B) ids, (T, B) targets, state → scalar, state."""
        nats, _, state = self.regularized_loss(ids, targets, state)
        return nats, state

    def regularized_loss(
        self,
        ids: Tensor,
        targets: Tensor,
        state: State,
        ar: float = 0.0,
        tar: float = 0.0,
        folds: WindowFolds | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Mean nats a target, and what training minimises: those and the penalties on the last layer's states h.

        AR is α times the mean square of m ∘ h_t, with m the mask of the dropout, and TAR β times that of h_t − h_{t−1}
        (Merity, McCann and Socher 2017, "Revisiting activation regularization for language RNNs"; the paper has the
        norm, the authors' code the mean square).

        Args:
            ids, targets: (T, B).
            ar, tar: α and β.
            folds: of the window, in training with cross-fitting: each token reads vectors counted without its fold.

        Returns:
            The nats, the nats with both penalties, and the state.
        """
        raw, state = self.hidden(ids, state, folds)
        hidden = locked_dropout(raw, self.dropout_output, self.training)
        if folds is None or folds.output_rows is None:
            nats = self.output.loss(hidden.flatten(0, 1), targets.flatten(), ignore_index=None)
        else:
            nats = self.output.loss_in_folds(hidden, targets, folds.targets, folds.output_rows)
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


def require_like(name: str, found: Tensor, expected: Tensor) -> None:
    """Raises ValueError unless a tensor that was read has the shape and the type of another."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(f"{name} {found.dtype}{list(found.shape)}, not {expected.dtype}{list(expected.shape)}")
