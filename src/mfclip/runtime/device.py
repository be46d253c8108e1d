"""Where to compute: a name to a torch device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfclip.errors import ConfigError

if TYPE_CHECKING:
    import torch


def find_device(name: str = "auto", *, local_rank: int = 0) -> torch.device:
    """Turn a name into a device that this machine has.

    Args:
        name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        local_rank: number of the GPU for ``auto`` and ``cuda``.

    Raises:
        ConfigError: the name means nothing, or the machine has no such device.
    """
    import torch  # noqa: PLC0415 - keeps the import of mfclip light

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        name = found.type if found else "cpu"
    try:
        device = torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        message = f"no device '{name}' on this machine; expected auto, cpu, cuda, cuda:1 or mps"
        raise ConfigError(message) from None
    return device
