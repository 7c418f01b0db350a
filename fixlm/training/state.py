"""How far a training run is: what ``state.json`` of a checkpoint holds."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progressed:
    """What a run knows besides its tensors; saved as ``state.json`` with every checkpoint."""

    step: int = 0  # steps taken
    seconds: float = 0.0  # spent in training steps
    validation_seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=lambda: {"step": None, "total_nats": math.inf})
    validations: list[float] = field(default_factory=list)  # total nats of each so far
    average_start: int | None = None  # the step after which the average of the weights begins

    def require_sound(self, total: int) -> None:
        """Raises ValueError or KeyError unless it can be that of a run of ``total`` steps."""
        counts = [(self.step, total)]
        counts += [] if self.average_start is None else [(self.average_start, self.step)]
        seconds = [self.seconds, self.validation_seconds, *self.validations]
        if self.best["step"] is not None:
            counts += [(self.best["step"], self.step), (self.best["targets"] - 1, sys.maxsize)]
            counts += [] if self.best["words"] is None else [(self.best["words"] - 1, sys.maxsize)]
            seconds.append(self.best["total_nats"])
        if not isinstance(self.validations, list):
            raise ValueError(f"validations of {self.validations!r}")
        for value, most in counts:
            if not (type(value) is int and 0 <= value <= most):
                raise ValueError(f"a count of {value!r}")
        for amount in seconds:
            if not (type(amount) in (int, float) and 0 <= amount < math.inf):
                raise ValueError(f"an amount of {amount!r}")
