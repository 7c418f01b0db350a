"""How far a training run is: what ``state.json`` of a checkpoint holds."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


def no_best() -> dict[str, Any]:
    """`TrainingState.best` before the first validation."""
    return {"step": None, "total_nats": math.inf}


@dataclass
class TrainingState:
    """What a run knows besides its tensors; saved as ``state.json`` with every checkpoint."""

    step: int = 0  # steps taken
    seconds: float = 0.0  # spent in training steps
    validation_seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=no_best)
    validations: list[float] = field(default_factory=list)  # total nats of each so far
    average_start: int | None = None  # the step after which the average of the weights begins
    # Loss, gradient norm and seconds of each step since the last record of the metrics.
    recent: list[tuple[float, float, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values; JSON has no infinity, so that there is no ``best`` before the first validation."""
        best = self.best if math.isfinite(self.best["total_nats"]) else None
        return vars(self) | {"best": best}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], total: int) -> Self:
        """The state that `to_json` gave, of a run of ``total`` steps.

        Raises:
            KeyError, TypeError, ValueError: it cannot be that of such a run.
        """
        recent = [(float(loss), float(norm), float(seconds)) for loss, norm, seconds in values["recent"]]
        state = cls(**{**values, "best": values["best"] or no_best(), "recent": recent})
        state._require_sound(total)
        return state

    def take_means(self) -> tuple[float, float, float, int]:
        """Mean loss, gradient norm and seconds of the steps since the last record, and their number; begins anew."""
        count = len(self.recent)
        loss, norm, seconds = (sum(column) / count for column in zip(*self.recent, strict=True))
        self.recent = []
        return loss, norm, seconds, count

    def _require_sound(self, total: int) -> None:
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
