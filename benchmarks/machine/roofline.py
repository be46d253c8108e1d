"""How near to the machine's limit: work counted, ceilings measured, the fraction between.

A ceiling is the best rate that this machine, this torch and these threads reach on one large
product or one large convolution; theoretical peaks are not used. Multiplying and adding count as
two operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from machine.timing import Timing, time_ways
from mfclip.runtime.parallel import Progress, silent

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Number types whose ceilings are measured."""

SIDES = {"cpu": (1024, 2048), "gpu": (4096, 8192)}
"""Rows and columns of the square matrices that are multiplied."""

CONVOLUTIONS = {
    "cpu": ((8, 128, 56), (8, 256, 28)),
    "gpu": ((128, 128, 56), (128, 256, 28)),
}
"""Images, channels (in and out) and side in pixels of the 3 x 3 convolutions."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations of one run.

    Attributes:
        convolution: of convolutions, forward and backward.
        product: of everything else that is counted: matrix products and attention.
    """

    convolution: int
    product: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.convolution + self.product


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Best rates of one number type, operations a second."""

    product: float
    convolution: float


def count_flops(work: Callable[[], Any]) -> Flops:
    """Count the operations of one run with torch's own counter.

    Element-wise work, which is bound by memory, is not counted.

    Example:
        >>> a = torch.ones(2, 3)
        >>> count_flops(lambda: a @ a.T).total
        24
    """
    with FlopCounterMode(display=False) as counter:
        work()
    counts = counter.get_flop_counts().get("Global", {})
    convolution = sum(n for operator, n in counts.items() if "convolution" in str(operator))
    return Flops(convolution, counter.get_total_flops() - convolution)


def measure_ceilings(
    device: torch.device, *, rounds: int = 5, progress: Progress = silent
) -> dict[str, Ceiling]:
    """Measure the ceilings of a device by number type; some seconds.

    Args:
        device: what computes.
        rounds: products and convolutions of each kind.
        progress: told after every round.
    """
    return {
        name: Ceiling(
            product=_best(_product, _sizes(SIDES, device), dtype, device, rounds, progress),
            convolution=_best(
                _convolution, _sizes(CONVOLUTIONS, device), dtype, device, rounds, progress
            ),
        )
        for name, dtype in TYPES.items()
    }


def fraction_reached(flops: Flops, seconds: float, ceiling: Ceiling) -> float:
    """Return the shortest time that the ceilings allow for this work over the time it took.

    Args:
        flops: of the work.
        seconds: it took.
        ceiling: of the number type it was done in.

    Returns:
        1 where the machine can do no better; more is possible where a method saves operations.

    Example:
        >>> fraction_reached(Flops(8, 4), 4.0, Ceiling(product=4.0, convolution=8.0))
        0.5
    """
    shortest = flops.convolution / ceiling.convolution + flops.product / ceiling.product
    return shortest / seconds


def to_json(ceilings: Mapping[str, Ceiling]) -> dict[str, dict[str, float]]:
    """Return the ceilings by number type; operations a second."""
    return {name: asdict(ceiling) for name, ceiling in ceilings.items()}


def _sizes(table: Mapping[str, Any], device: torch.device) -> Any:
    return table["cpu" if device.type == "cpu" else "gpu"]


def _best(
    build: Callable[[Any, torch.dtype, torch.device], Callable[[], Tensor]],
    sizes: tuple[Any, ...],
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
    progress: Progress,
) -> float:
    rates = []
    for size in sizes:
        work = build(size, dtype, device)
        with torch.inference_mode():
            flops = count_flops(work).total
            timings: dict[str, Timing] = time_ways(
                {f"ceiling of {str(dtype).removeprefix('torch.')}": work},
                rounds=rounds,
                device=device,
                progress=progress,
            )
        (timing,) = timings.values()
        rates.append(flops / min(timing.seconds))  # a ceiling: the best round counts
    return max(rates)


def _product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    left = torch.randn(side, side, device=device).to(dtype)
    return lambda: left @ left


def _convolution(
    size: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Callable[[], Tensor]:
    images, channels, side = size
    maps = torch.randn(images, channels, side, side, device=device)
    kernels = torch.randn(channels, channels, 3, 3, device=device)
    maps, kernels = (t.to(dtype, memory_format=torch.channels_last) for t in (maps, kernels))
    return lambda: functional.conv2d(maps, kernels, padding=1)
