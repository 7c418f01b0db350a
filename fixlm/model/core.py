"""What a recurrent core is to the rest of the program, and which there are.

A core is a module (T, B, E) → (T, B, units of its last layer) with a state that it alone can read: trainer, evaluation
and checkpoints carry the state from one window to the next as a tuple of tensors and ask for no more. To add a core,
write its file and add a line to `CORES`; ``--core`` then takes its name.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor

    State = tuple[Tensor, ...]

CORES = {"lstm": "fixlm.model.lstm:LockedDropoutLSTM"}
"""Each core by its name, which is also the prefix of its parameters: ``lstm.weight_ih_l0``."""


class RecurrentCore(Protocol):
    """What a core's class has; it is an `nn.Module` besides.

    Its constructor takes ``input_size, hidden_size, num_layers, between`` and, by name, ``last_hidden_size`` and
    ``weight_drop``: see `fixlm.model.lstm.LockedDropoutLSTM`.
    """

    STATE: tuple[str, ...]
    """A name for each tensor of the state, as checkpoints have it after the core's own: ``lstm.hidden``."""

    def start_state(self, batch_size: int) -> State:
        """The state before the first word; each tensor has the batch in its second dimension."""
        ...

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, E), state → (T, B, units of the last layer), state."""
        ...


def core_class(name: str) -> type[RecurrentCore]:
    """The class of a core by its name; imports torch."""
    return cast(type[RecurrentCore], pkgutil.resolve_name(CORES[name]))
