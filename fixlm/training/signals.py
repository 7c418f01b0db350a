"""SIGINT and SIGTERM ask a run to stop after its step; a second one ends it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class StopRequest:
    """While active, `signal_number` tells which signal asked to stop; 0 if none did.

    Args:
        patient: a second signal changes nothing, since torchrun passes on what a process may have got already.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.signal_number = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        for each in () if self.patient else self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
