"""Run a generator in a thread, a bounded number of items ahead of whoever takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")


def read_ahead(source: Generator[_T, None, None], depth: int) -> Generator[_T, None, None]:
    """Yield what `source` yields, in its order; its errors arrive in their place.

    Leaving the iteration early ends the thread and closes `source`.

    Args:
        source: runs in a thread of its own.
        depth: items that wait at most.

    Example:
        >>> list(read_ahead((n * n for n in range(3)), 2))
        [0, 1, 4]
    """
    ready: queue.Queue[tuple[_T] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def fill() -> None:
        try:
            for item in source:
                _put(ready, (item,), stop)
                if stop.is_set():
                    break
            _put(ready, None, stop)
        except BaseException as error:  # raised again where the items are taken
            _put(ready, error, stop)
        finally:
            source.close()

    thread = threading.Thread(target=fill, name="mfclip-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stop.set()
        thread.join()


def _put(ready: queue.Queue[_T], item: _T, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
