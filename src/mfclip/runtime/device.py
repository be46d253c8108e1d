"""Where to compute, and how fast: a name to a torch device, and the kernels of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        ConfigError: the name means nothing, the machine has no such device, or others have taken
            all of its memory.
    """
    import torch  # noqa: PLC0415 - keeps the import of mfclip light

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        name = found.type if found else "cpu"
    try:
        device = torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
        torch.zeros(1, device=device)
    except torch.OutOfMemoryError as error:  # a RuntimeError, too
        reason = str(error).partition(". ")[0]
        raise ConfigError(
            f"device '{name}' has no free memory ({reason}); end what else runs on it, or choose "
            "another device"
        ) from error
    except (RuntimeError, AssertionError, NotImplementedError):
        message = f"no device '{name}' on this machine; expected auto, cpu, cuda, cuda:1 or mps"
        raise ConfigError(message) from None
    return device


@contextmanager
def fast_kernels(device: torch.device, matmul: str) -> Iterator[None]:
    """Let a GPU choose its fastest kernels while the block runs; nothing changes on a CPU.

    Convolutions are timed once a shape (`cudnn.benchmark`): faces have one shape, so it pays.

    Args:
        device: where the block computes.
        matmul: precision of products of float32: ``highest`` is exact, ``high`` rounds the factors
            to TF32 (10 bits of fraction), which is several times as fast.
    """
    import torch  # noqa: PLC0415 - keeps the import of mfclip light

    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision(matmul)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])


def emulation_warning(device: torch.device, precision: str) -> str | None:
    """Warn of a precision that a processor emulates: it computes it many times slower than float32.

    Args:
        device: where to compute.
        precision: as in ``train.precision``.

    Returns:
        The warning, or None where the device has the arithmetic (GPUs are taken to have it).
    """
    import torch  # noqa: PLC0415 - keeps the import of mfclip light

    probe = {"bf16-mixed": "_is_mkldnn_bf16_supported", "16-mixed": "_is_mkldnn_fp16_supported"}
    # builds of torch without oneDNN cannot be asked
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    asks = device.type == "cpu" and precision in probe and has_onednn
    if not asks or getattr(torch.ops.mkldnn, probe[precision])():
        return None
    return (
        f"this processor has no instructions for {precision} and emulates it, many times slower "
        "than float32; 32-true is faster here"
    )
