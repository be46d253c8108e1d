"""One process at a time: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lock(path: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Hold a lock while the block runs, if it is free; yield whether it is held.

    The lock is the operating system's (`flock`), so a process that is killed leaves none behind.
    It holds over machines where the folder's file system passes locks on, as NFS does. The file
    stays: taking it away would let two processes hold a lock of one name.

    Args:
        path: of the lock's file; folders are made.
        wait: seconds to try for.

    Raises:
        OSError: the file cannot be made.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - keeps the import of mfclip light

    path.parent.mkdir(parents=True, exist_ok=True)
    lock, until = FileLock(path), time.monotonic() + wait
    while True:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            yield False
            return
        break
    try:
        yield True
    finally:
        lock.release()
