"""Run one function over many items on several processes, with bounded memory."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from mfclip.errors import MfclipError

_T = TypeVar("_T")
_R = TypeVar("_R")

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, items done, items in all)."""

CHUNK = 32
"""Items a process takes at a time; 32 pictures are about a tenth of a second."""


def silent(stage: str, done: int, total: int) -> None:
    """Report no progress."""


def map_parallel(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    *,
    workers: int = 0,
    chunk: int = CHUNK,
    stage: str = "reading",
    progress: Progress = silent,
) -> Iterator[_R]:
    """Yield ``function(item)`` in the order of `items`.

    At most four chunks a process are under way, so memory does not grow with the number of items.
    A process that is killed ends the run with an error instead of a wait without end.

    Args:
        function: a module-level function, since other processes import it by name.
        items: what it is called with.
        workers: number of processes; 0 works in this one. With more than 0 a script must guard its
            start with ``if __name__ == "__main__":``, as `multiprocessing` demands.
        chunk: items a process takes at a time; 1 where an item takes a second.
        stage: name handed to `progress`.
        progress: told the count after each chunk.

    Raises:
        MfclipError: a process was killed.

    Example:
        >>> list(map_parallel(abs, [-2, 3]))
        [2, 3]
    """
    done = 0
    for results in _chunks(function, items, workers, chunk):
        yield from results
        done += len(results)
        progress(stage, done, len(items))


def _chunks(
    function: Callable[[_T], _R], items: Sequence[_T], workers: int, size: int
) -> Iterator[list[_R]]:
    chunks = (items[start : start + size] for start in range(0, len(items), size))
    if workers < 1 or len(items) <= size:
        yield from (_call(function, chunk) for chunk in chunks)
        return
    # spawn: forking a process that has started threads (torch) can lock up
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        running: deque[Future[list[_R]]] = deque(
            pool.submit(_call, function, chunk) for chunk in islice(chunks, 4 * workers)
        )
        while running:
            results = running.popleft().result()
            for chunk in islice(chunks, 1):
                running.append(pool.submit(_call, function, chunk))
            yield results
    except BrokenProcessPool:
        message = "a process was ended from outside, perhaps for want of memory"
        raise MfclipError(f"{message}; run again with fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _call(function: Callable[[_T], _R], chunk: Sequence[_T]) -> list[_R]:
    return [function(item) for item in chunk]
