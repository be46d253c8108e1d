"""Largest memory use of a piece of work: of the GPU, else of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from machine.timing import synchronise

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def peak_memory(work: Callable[[], Any], device: torch.device) -> int | None:
    """Do some work once and return the largest memory in use meanwhile, bytes.

    On a GPU, what torch's tensors took. On a CPU, what the process held in memory, everything that
    was there before included; known on Linux only.

    Args:
        work: what to do.
        device: what it computes on.

    Returns:
        Bytes, or None where the system does not tell.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device)
    known = reset_process_peak()
    work()
    return process_peak() if known else None


def reset_process_peak() -> bool:
    """Begin a new peak (Linux: VmHWM); return whether the system can."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def process_peak() -> int | None:
    """Return the largest memory this process held since the last reset, bytes; None if unknown."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kibibytes[0] * 1024 if kibibytes else None
