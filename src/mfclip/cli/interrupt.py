"""Ctrl+C and SIGTERM: end long work in order, and say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from mfclip.train.stop import Stopped


class Interrupts:
    """A context manager in which both signals raise KeyboardInterrupt, but not in `whole` steps.

    Attributes:
        number: of the signal that came; 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._held = False

    def __enter__(self) -> Interrupts:
        # only the main thread of a process may set handlers, and only it is interrupted
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            self._before = {
                number: signal.signal(number, self._take)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_main:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let a step that is short end before the signal has its effect."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.number:
            raise KeyboardInterrupt

    @property
    def status(self) -> int:
        """Exit status by the shell's rule: 130 for Ctrl+C, 143 for SIGTERM."""
        return 128 + (self.number or signal.SIGINT)

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's own
        again, self.number = bool(self.number), number
        if not self._held or again:  # who asks twice means it
            raise KeyboardInterrupt


@contextmanager
def tell_how_to_go_on(advice: Callable[[], str]) -> Iterator[None]:
    """Print a line when the work inside is interrupted, and end with the status that says so."""
    with Interrupts() as interrupts:
        try:
            yield
        except KeyboardInterrupt as stop:
            # training answers signals itself, with a checkpoint, and says where it ended
            words, status = "interrupted", interrupts.status
            if isinstance(stop, Stopped):
                words, status = str(stop), stop.status
            typer.echo(f"{words}; {advice()}", err=True)
            raise typer.Exit(status) from None
