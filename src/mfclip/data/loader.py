"""The loaders that feed batches while a model computes.

Several processes that train together take slices of the same global batches (`BatchPlan`), so that
joined they see what one process would.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
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
    ) -> None:
        share = _share(plan.batch_size, world_size)
        self._plan = plan
        self._slice = slice(rank * share, (rank + 1) * share)
        self._reader = _Reader(dataset, workers)

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Load one epoch from batch `start_batch` on.

        Raises:
            InputError: a picture cannot be read; the message names it.
        """
        rows = self._plan.batches(epoch)[start_batch:, self._slice]
        for packed in self._reader.read(
            [[(int(i), epoch, int(role), int(draw)) for i, role, draw in row] for row in rows]
        ):
            if packed.errors:
                raise InputError(packed.errors[0].message)
            yield packed.batch

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

    Raises:
        ConfigError: `batch_size` cannot be divided by the number of processes, or the shards are
            too few or too small for so many readers.
    """

    def __init__(self, dataset: ShardDataset, batch_size: int, *, workers: int = 0) -> None:
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
        # A generator of its own: torch's, which a run restores on resume, stays untouched.
        self._batches = DataLoader[Any](
            dataset,
            batch_size=share,
            num_workers=workers,
            collate_fn=pack,
            drop_last=True,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return self._length

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Load one epoch from batch `start_batch` on.

        Raises:
            InputError: a picture cannot be read; the message names it and its shard.
            ManifestError: a shard is absent or damaged.
        """
        self._dataset.set_epoch(epoch)
        # The iterator starts the processes: in this thread, before another one runs.
        batches = islice(iter(self._batches), start_batch, self._length)
        return (loaded.batch for loaded in read_ahead(_finish(batches), PREFETCH))


class ScoringLoader:
    """All faces in manifest order; unreadable ones are listed, not fatal.

    Attributes:
        errors: pictures that could not be read, known once the iteration has passed them.
    """

    def __init__(self, dataset: FaceDataset, batch_size: int, workers: int = 0) -> None:
        self.errors: list[Unreadable] = []
        keys: list[Key] = [(index, 0) for index in range(len(dataset))]
        self._batches = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
        self._reader = _Reader(dataset, workers)

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


def scoring_loader(dataset: FaceDataset, batch_size: int, workers: int = 0) -> ScoringLoader:
    """Load every face once, in manifest order.

    Args:
        dataset: what is read; made with ``augment="none"``.
        batch_size: faces a batch; the last may hold fewer.
        workers: loader processes; 0 decodes in threads of this process.
    """
    return ScoringLoader(dataset, batch_size, workers)


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


class _Reportable(Dataset[FaceItem | Unreadable]):
    """The data set, with errors as items, so that a loader process can hand them over."""

    def __init__(self, dataset: FaceDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> FaceItem | Unreadable:
        return self.dataset.read_or_report(key)


class _Reader:
    """Keys to finished batches, in order and ahead of the consumer."""

    def __init__(self, dataset: FaceDataset, workers: int) -> None:
        self._items = _Reportable(dataset)
        self._workers = workers
        self._order: list[list[Key]] = []
        self._processes: Iterable[PackedBatch] | None = None

    def read(self, batches: Sequence[list[Key]]) -> Iterator[_Loaded]:
        if not self._workers:
            return read_ahead(_finish(self._in_threads(batches)), PREFETCH)
        if self._processes is None:
            self._processes = self._start_processes()
        self._order[:] = batches
        # The iterator starts the processes: in this thread, before another one runs.
        return read_ahead(_finish(iter(self._processes)), PREFETCH)

    def close(self) -> None:
        self._processes = None  # the last reference: torch ends the processes with it

    def _start_processes(self) -> Iterable[PackedBatch]:
        # A generator of its own: torch's, which a run restores on resume, stays untouched.
        return DataLoader[Any](
            self._items,
            batch_sampler=_Current(self._order),
            num_workers=self._workers,
            collate_fn=pack,
            persistent_workers=True,
            generator=torch.Generator(),
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


def _finish(packed: Iterable[PackedBatch]) -> Generator[_Loaded, None, None]:
    """To float, and into pinned memory where a GPU will fetch it."""
    pin = torch.cuda.is_available()
    for each in packed:
        batch = unpack(each)
        if pin:
            batch = replace(batch, images=batch.images.pin_memory())
        yield _Loaded(batch, each.errors)
