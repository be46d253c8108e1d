"""Main memory: keep what is freed for the next step, and say how much was held at most."""

from __future__ import annotations

import ctypes
import gc
import sys

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
"""Numbers that glibc's `mallopt` gives to its settings (malloc.h)."""


def keep_freed_memory(*, keep: bool = True) -> bool:
    """Let the process hold on to freed memory instead of handing it back to the system.

    A training step on a CPU frees and asks again for the same gigabytes. By default glibc hands
    each large block back, and the system then clears every page of the new one: a quarter to a
    third of the step's time. The process holds its highest use from then on, and a later block
    may not fit into the holes left by earlier ones, so the highest use can grow a little.

    Args:
        keep: False goes back to what glibc settles on by itself.

    Returns:
        Whether this system's allocator could be told (Linux with glibc).
    """
    library = _glibc()
    if library is None:
        return False
    if keep:
        settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}  # all from one heap, never trimmed
    else:
        settings = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
    done = [library.mallopt(name, value) == 1 for name, value in settings.items()]
    if not keep:
        release_freed_memory()
    return all(done)


def release_freed_memory() -> bool:
    """Hand memory that was freed back to the system, of all threads; takes tenths of a second.

    What only refers to itself, as an exception and its frames do, is freed first. glibc keeps what
    each thread frees for that thread. A server with many threads would hold the sum of what each
    of them ever needed.

    Returns:
        Whether this system's allocator could be told (Linux with glibc).
    """
    gc.collect()
    library = _glibc()
    if library is None:
        return False
    library.malloc_trim(ctypes.c_size_t(0))
    return True


def share_heaps(count: int = 2) -> bool:
    """Let all threads share a few of glibc's heaps instead of up to eight for each core.

    What one thread frees, another can then use, and less is left over that no thread can. Call it
    before the threads begin.

    Args:
        count: heaps, at least 1. Fewer means that threads wait for each other more often.

    Returns:
        Whether this system's allocator could be told (Linux with glibc).
    """
    library = _glibc()
    return library is not None and library.mallopt(_ARENA_MAX, count) == 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the machine.

    Example:
        >>> is_out_of_memory(torch.OutOfMemoryError()), is_out_of_memory(RuntimeError("shapes"))
        (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's CPU allocator raises a bare RuntimeError
    words = ("DefaultCPUAllocator", "not enough memory", "allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, "mallopt") else None


def peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: by tensors on a GPU, else resident in this process.

    0 where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # noqa: PLC0415  absent on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
