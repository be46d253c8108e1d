"""Read ahead: pictures are decoded and faces found in threads while the engine computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

from mfclip.runtime.provenance import usable_cores

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 8
"""Reading threads at most; beyond that Python's lock is the limit."""


def read_ahead(
    read: Callable[[T], R], items: Iterable[T], *, ahead: int
) -> Generator[R, None, None]:
    """Iterate over ``read(item)`` in the order of `items`, up to `ahead` of them in advance.

    Memory does not grow with the number of items. Closing the iterator, or an interrupt, waits
    for the items that are being read and drops the others. A single item is read in place, with
    all of torch's threads.

    Args:
        read: is called from several threads at once.
        items: is consumed in the caller's thread, so a generator is safe.
        ahead: items that are read or held at the same time, at least 1.

    Example:
        >>> list(read_ahead(abs, [-1, 2, -3], ahead=2))
        [1, 2, 3]
    """
    source = iter(items)
    first = list(islice(source, 2))
    if len(first) < 2:  # noqa: PLR2004
        yield from map(read, first)
        return
    source = chain(first, source)
    pool, threads = _start_pool(), torch.get_num_threads()
    try:
        running: deque[Future[R]] = deque(pool.submit(read, item) for item in islice(source, ahead))
        while running:
            result = running.popleft().result()
            # the next one starts before the caller computes with this one
            running.extend(pool.submit(read, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


def _start_pool() -> ThreadPoolExecutor:
    """Start threads that use one core each: a team of torch's threads in each would be too many.

    torch keeps the number by thread, and hands the last one that was set to threads that start
    later; `read_ahead` therefore sets its caller's again.
    """
    return ThreadPoolExecutor(
        min(MAX_THREADS, usable_cores()),
        "mfclip-read",
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
