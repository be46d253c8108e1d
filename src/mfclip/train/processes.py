"""One process or several: the process group under ``torchrun``, mixed precision, the device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mfclip.layers.normalisation import join_statistics
from mfclip.runtime.device import find_device

T = TypeVar("T")

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        world_size: how many there are.
        device: where it computes.
        control: group over the CPU for what is no tensor of the model, so that agreeing on
            something does not wait for a GPU; None = the default group.
    """

    rank: int
    world_size: int
    device: torch.device
    control: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def join_statistics(self, module: nn.Module) -> None:
        """Let batch norms see the joined batch of all processes."""
        if self.world_size > 1:
            join_statistics(module, on_gpu=self.device.type == "cuda")

    def wrap(self, module: nn.Module) -> nn.Module:
        """Join gradients over the processes, if there are several."""
        return DistributedDataParallel(module) if self.world_size > 1 else module

    def unsynchronised(self, module: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
        """Leave gradients local, for all micro-batches but the last."""
        if enabled and isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return contextlib.nullcontext()

    def seed(self, *numbers: int) -> None:
        """Seed torch's random numbers on all devices from these numbers and this process's own.

        Without the rank in it all processes would drop the same features of different faces.
        """
        state = np.random.SeedSequence((*numbers, self.rank)).generate_state(2, np.uint32)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Average numbers over the processes."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def average_gradients(self, module: nn.Module) -> None:
        """Average gradients that `wrap` did not see, because the parts were called one by one."""
        if self.world_size == 1:
            return
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world_size

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, in rank order, in each of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def any(self, *, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them learn it."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.control)
        return bool(flags)

    def decide(self, decision: Callable[[], T]) -> T:
        """Let the first process decide; return its answer, or raise its error, in all of them.

        Each looking for itself, one might see a file that another does not see yet.
        """
        if self.world_size == 1:
            return decision()
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer[0] = decision()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, group=self.control)
        if answer[1] is not None:
            raise answer[1]
        decided: T = answer[0]
        return decided

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier(group=self.control)


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Take part in the group that ``torchrun`` started, or run alone.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: no such device here.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = find_device(device, local_rank=local)
    on_gpu = chosen.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        control = dist.new_group(backend="gloo") if on_gpu else None
        yield Processes(rank, world_size, chosen, control)
    finally:
        dist.destroy_process_group()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Compute convolutions and products in the type that `precision` names."""
    dtype = _DTYPES.get(precision)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)
