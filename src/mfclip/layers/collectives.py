"""Sums and joins over the processes that train together, letting gradients through.

Written on the public collectives, since `torch.distributed.nn` is deprecated in newer releases.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def process_count() -> int:
    """Return how many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_processes(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Add up a tensor over all processes; its gradient is added up likewise."""
    if process_count() == 1:
        return values
    out: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return out


def join_over_processes(values: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """Join equally long tensors of all processes along their first axis, in rank order."""
    if process_count() == 1:
        return values
    # every process fills its own part of zeros, and the sum holds all parts
    parts = torch.zeros(dist.get_world_size(), *values.shape).to(values)
    rank = torch.tensor([dist.get_rank()], device=values.device)
    return sum_over_processes(parts.index_copy(0, rank, values[None])).flatten(0, 1)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _Sum.forward(None, gradient)
