"""Ctrl+C and SIGTERM end a run at its next step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

NOTICE = b"\nstopping after this step, with a checkpoint; Ctrl+C once more ends at once\n"


class Stopped(KeyboardInterrupt):
    """A run was asked to end and has written its checkpoint.

    It is no `Exception`, as `KeyboardInterrupt` is none: who asks to end means the whole program.

    Attributes:
        status: the exit status that a shell expects, 128 + number of the signal.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class StopRequest(AbstractContextManager["StopRequest"]):
    """Remembers that somebody asked to end, while its block runs.

    Outside the main thread, where Python lets nobody handle signals, nothing is ever asked.

    Args:
        patient: ignore a second Ctrl+C: ``torchrun`` passes each one on twice.

    Attributes:
        number: of the signal that came; None if none did.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.number: int | None = None
        self._process = os.getpid()
        self._patient = patient
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's
        if os.getpid() != self._process:  # a loader that was forked; this process ends it
            return
        if self.number is not None and number == signal.SIGINT and not self._patient:
            raise KeyboardInterrupt
        if self.number is None:
            os.write(2, NOTICE)  # print may be what was interrupted
        self.number = number
