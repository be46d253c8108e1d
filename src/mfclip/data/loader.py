"""The loaders that feed batches while a model computes.

Several processes that train together take slices of the same global batches (`BatchPlan`), so that
joined they see what one process would.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mfclip.batch import Batch
from mfclip.data.dataset import (
    FaceDataset,
    FaceItem,
    Key,
    PackedBatch,
    Unreadable,
    pack,
    unpack,
)
from mfclip.data.sampling import BatchPlan
from mfclip.data.shards import ShardDataset
from mfclip.errors import ConfigError, InputError
from mfclip.runtime.ahead import read_ahead

__all__ = ["BatchPlan", "ScoringLoader", "StreamingLoader", "TrainingLoader", "scoring_loader"]

PREFETCH = 3
"""Batches that are decoded ahead of the training step."""

OUTLIVES = 30
"""Seconds that a loader process goes on after SIGTERM, for the step that needs its batch."""

CPU = torch.device("cpu")

MAX_THREADS = 8
"""Decoding threads at most; beyond that Python's lock is the limit, and processes are better."""


class TrainingLoader:
    """Batches of any epoch, from any batch of it; loader processes outlive the epoch.

    Args:
        dataset: what is read.
        plan: the order, over the data set's manifest.
        rank: number of this process.
        world_size: processes that train together; each takes an equal slice of every batch.
        workers: loader processes; 0 decodes in threads of this process.
        device: where the batches will be sent; for a GPU they stay uint8 until `Batch.to`.

    Attributes:
        unreadable: path -> what is wrong with each picture that could not be read so far; another
            of its kind stood in its place.

    Raises:
        ConfigError: `plan.batch_size` cannot be divided by `world_size`.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        plan: BatchPlan,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        device: torch.device = CPU,
    ) -> None:
        share = _share(plan.batch_size, world_size)
        self.unreadable: dict[str, str] = {}
        self._plan = plan
        self._slice = slice(rank * share, (rank + 1) * share)
        self._reader = _Reader(_Replacing(dataset), workers, device)

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Load one epoch from batch `start_batch` on.

        Raises:
            InputError: a picture and others of its kind cannot be read; the message names it.
        """
        rows = self._plan.batches(epoch)[start_batch:, self._slice]
        keys: list[list[Key]] = [
            [(int(i), epoch, int(role), int(draw)) for i, role, draw in row] for row in rows
        ]
        for loaded in self._reader.read(keys):
            self.unreadable |= {str(each.path): each.message for each in loaded.errors}
            if len(loaded.batch) < rows.shape[1]:
                raise InputError(
                    f"{loaded.errors[0].message}; nor could others of its kind be read in its place"
                )
            yield loaded.batch

    def close(self) -> None:
        """End the loader processes now; the next epoch would start new ones."""
        self._reader.close()


class StreamingLoader:
    """Batches of any epoch out of shards, in the order in which the shards come.

    With the same shards, number of processes and of workers an epoch is the same to the bit; one
    that is taken up in its middle reads its beginning again and drops it. Every epoch has the same
    number of batches; faces that do not fill one are left out, others each time.

    Args:
        dataset: the stream, with ``shuffle`` and its place among the ranks.
        batch_size: faces a step over all processes.
        workers: loader processes; 0 decodes in one thread of this process.
        device: as in `TrainingLoader`, and so is `unreadable`.

    Raises:
        ConfigError: `batch_size` cannot be divided by the number of processes, or the shards are
            too few or too small for so many readers.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batch_size: int,
        *,
        workers: int = 0,
        device: torch.device = CPU,
    ) -> None:
        self.unreadable: dict[str, str] = {}
        self._device = device
        world_size = dataset.ranks[1]
        share = _share(batch_size, world_size)
        readers = max(1, workers)
        self._length = readers * (dataset.fewest(readers * world_size) // share)
        if not self._length:
            message = (
                f"{len(dataset.index.names)} shards of {sum(dataset.index.counts)} faces cannot "
                f"give {readers * world_size} readers a batch of {share} each; write smaller "
                "shards, or lower data.workers or train.batch_size"
            )
            raise ConfigError(message)
        self._dataset = dataset
        self._share, self._workers = share, workers
        self._batches: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Load one epoch from batch `start_batch` on.

        Raises:
            InputError: no picture of a shard can be read; the message names one.
            ManifestError: a shard is absent or damaged.
        """
        self._dataset.set_epoch(epoch)
        if self._batches is None:
            self._batches = self._start()
        # The iterator starts the processes: in this thread, before another one runs.
        batches = islice(iter(self._batches), start_batch, self._length)
        return self._note(read_ahead(_finish(batches, self._device), PREFETCH))

    def _note(self, batches: Iterator[_Loaded]) -> Iterator[Batch]:
        for loaded in batches:
            self.unreadable |= {str(each.path): each.message for each in loaded.errors}
            yield loaded.batch

    def close(self) -> None:
        """End the loader processes now; the next epoch would start new ones."""
        self._batches = None  # the last reference: torch ends the processes with it

    def _start(self) -> DataLoader[Any]:
        # A generator of its own: torch's, which training seeds anew each step, stays untouched.
        return DataLoader[Any](
            self._dataset,
            batch_size=self._share,
            num_workers=self._workers,
            collate_fn=pack,
            drop_last=True,
            persistent_workers=self._workers > 0,
            generator=torch.Generator(),
            worker_init_fn=_outlive_signals,
        )


class ScoringLoader:
    """All faces in manifest order; unreadable ones are listed, not fatal.

    Attributes:
        errors: pictures that could not be read, known once the iteration has passed them.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        workers: int = 0,
        device: torch.device = CPU,
    ) -> None:
        self.errors: list[Unreadable] = []
        keys: list[Key] = [(index, 0) for index in range(len(dataset))]
        self._batches = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
        self._reader = _Reader(_Reporting(dataset), workers, device)

    def __len__(self) -> int:
        """Batches at most; one whose pictures are all unreadable is left out."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        self.errors.clear()
        for packed in self._reader.read(self._batches):
            self.errors.extend(packed.errors)
            if len(packed.batch):
                yield packed.batch

    def close(self) -> None:
        """End the loader processes now; the next pass would start new ones."""
        self._reader.close()


def scoring_loader(
    dataset: FaceDataset, batch_size: int, workers: int = 0, device: torch.device = CPU
) -> ScoringLoader:
    """Load every face once, in manifest order.

    Args:
        dataset: what is read; made with ``augment="none"``.
        batch_size: faces a batch; the last may hold fewer.
        workers: loader processes; 0 decodes in threads of this process.
        device: where the batches will be sent; for a GPU they stay uint8 until `Batch.to`.
    """
    return ScoringLoader(dataset, batch_size, workers, device)


def _share(batch_size: int, world_size: int) -> int:
    """Faces of a batch that one process loads."""
    if batch_size % world_size:
        message = (
            f"batch_size {batch_size} cannot be shared equally by {world_size} processes; "
            f"use a multiple of {world_size}"
        )
        raise ConfigError(message)
    return batch_size // world_size


@dataclass(frozen=True)
class _Loaded:
    batch: Batch
    errors: tuple[Unreadable, ...]


class _Reporting(Dataset[FaceItem | Unreadable]):
    """The data set, with errors as items, so that a loader process can hand them over."""

    def __init__(self, dataset: FaceDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> FaceItem | Unreadable:
        return self.dataset.read_or_report(key)


class _Replacing(_Reporting):
    """The data set, with other faces in the place of those that cannot be read."""

    def __getitem__(self, key: Key) -> FaceItem | Unreadable:
        return self.dataset.read_or_replace(key)


class _Reader:
    """Keys to finished batches, in order and ahead of the consumer."""

    def __init__(self, items: _Reporting, workers: int, device: torch.device) -> None:
        self._items = items
        self._workers = workers
        self._device = device
        self._order: list[list[Key]] = []
        self._processes: Iterable[PackedBatch] | None = None

    def read(self, batches: Sequence[list[Key]]) -> Iterator[_Loaded]:
        if not self._workers:
            return read_ahead(_finish(self._in_threads(batches), self._device), PREFETCH)
        if self._processes is None:
            self._processes = self._start_processes()
        self._order[:] = batches
        # The iterator starts the processes: in this thread, before another one runs.
        return read_ahead(_finish(iter(self._processes), self._device), PREFETCH)

    def close(self) -> None:
        self._processes = None  # the last reference: torch ends the processes with it

    def _start_processes(self) -> Iterable[PackedBatch]:
        # A generator of its own: torch's, which training seeds anew each step, stays untouched.
        return DataLoader[Any](
            self._items,
            batch_sampler=_Current(self._order),
            num_workers=self._workers,
            collate_fn=pack,
            persistent_workers=True,
            generator=torch.Generator(),
            worker_init_fn=_outlive_signals,
        )

    def _in_threads(self, batches: Sequence[list[Key]]) -> Iterator[PackedBatch]:
        pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), "mfclip-decode")
        waiting: deque[list[Future[FaceItem | Unreadable]]] = deque()
        try:
            for keys in batches:
                waiting.append([pool.submit(self._items.__getitem__, key) for key in keys])
                if len(waiting) > 1:
                    yield pack([future.result() for future in waiting.popleft()])
            while waiting:
                yield pack([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Current:
    """A batch sampler over a list that is refilled every epoch."""

    def __init__(self, order: list[list[Key]]) -> None:
        self._order = order

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(list(self._order))

    def __len__(self) -> int:
        return len(self._order)


def _finish(packed: Iterable[PackedBatch], device: torch.device) -> Generator[_Loaded, None, None]:
    """To float, or into pinned memory where a GPU will fetch it and make it float itself."""
    pin = device.type == "cuda" and torch.cuda.is_available()
    for each in packed:
        batch = unpack(each, scale=device.type == "cpu")
        yield _Loaded(batch.pin() if pin else batch, each.errors)


def _outlive_signals(worker: int) -> None:  # noqa: ARG001 - torch's
    """Leave Ctrl+C and SIGTERM, which reach a whole process group, to the process that trains.

    It ends at its next step and ends the loaders; without them it could not finish that step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows
        # but not for ever: this is also how a loader that hangs is ended
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(OUTLIVES))
