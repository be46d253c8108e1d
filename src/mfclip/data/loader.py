"""Manifest order, training order, and the loaders that feed batches while a model computes.

The order of an epoch is a function of (manifest, mode, batch size, seed, epoch) and nothing else;
several processes take slices of the same global batches. So any batch of any epoch can be reached
directly, and n processes joined see what one process would.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Int64
from torch.utils.data import DataLoader, Dataset

from mfclip.batch import Batch
from mfclip.data.dataset import (
    Face,
    FaceDataset,
    Key,
    PackedBatch,
    Unreadable,
    pack,
    unpack,
)
from mfclip.data.manifest import Manifest
from mfclip.errors import ConfigError, InputError

Sampling: TypeAlias = Literal["shuffle", "balanced", "generator", "paired"]
Indices: TypeAlias = Int64[np.ndarray, " n"]

_T = TypeVar("_T")

PREFETCH = 3
"""Batches that are decoded ahead of the training step."""

MAX_THREADS = 8
"""Decoding threads at most; beyond that Python's lock is the limit, and processes are better."""


@dataclass(frozen=True)
class BatchPlan:
    """The order in which an epoch visits the samples.

    Modes: ``shuffle`` visits every sample once; ``balanced`` has as many real as fake faces in
    every batch; ``generator`` also visits every generator equally often; ``paired`` joins each
    fake with a real face of its own group, or any real face if its group has none. The last three
    repeat the smaller side in fresh orders, and an epoch is as long as the manifest. A last batch
    that is not full is left out.

    Args:
        manifest: the samples.
        mode: as above.
        batch_size: samples a step over all processes.
        seed: of the order.

    Raises:
        ConfigError: an unknown mode, fewer samples than `batch_size`, only real or only fake faces
            in a mode that needs both, or an odd `batch_size` in ``paired``.
    """

    manifest: Manifest
    mode: Sampling
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Sampling):
            choices = ", ".join(get_args(Sampling))
            raise ConfigError(f"expected sampling to be one of [{choices}], but got {self.mode!r}")
        if self.mode == "paired" and self.batch_size % 2:
            message = f"paired sampling needs an even batch_size, but got {self.batch_size}"
            raise ConfigError(message)
        if not 0 < self.batch_size <= len(self.manifest):
            message = (
                f"expected batch_size between 1 and the {len(self.manifest)} training samples, "
                f"but got {self.batch_size}"
            )
            raise ConfigError(message)
        if self.mode != "shuffle" and not (len(self._reals()) and len(self._fakes())):
            message = (
                f"{self.mode} sampling needs real and fake faces, but the training samples hold "
                f"{len(self._reals())} real and {len(self._fakes())} fake; use shuffle"
            )
            raise ConfigError(message)

    def __len__(self) -> int:
        """Batches an epoch, the same for every epoch."""
        return len(self.manifest) // self.batch_size

    def batches(self, epoch: int) -> Int64[np.ndarray, "n b"]:
        """Rows of the manifest, one line a global batch."""
        # A spawn key keeps this stream apart from the items' (seed, epoch, index).
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=(1,)))
        count = len(self) * self.batch_size
        order = self._order(count, rng).reshape(len(self), self.batch_size)
        # Slots of a batch carry no meaning, which SPA's `batch` mode relies on.
        return order if self.mode == "shuffle" else rng.permuted(order, axis=1)

    def _order(self, count: int, rng: np.random.Generator) -> Indices:
        if self.mode == "shuffle":
            return rng.permutation(len(self.manifest))[:count]
        half = (count + 1) // 2
        if self.mode == "generator":
            fakes = _take_in_turn(self._fakes_of_generators(), half, rng)
        else:
            fakes = _take(self._fakes(), half, rng)
        reals = _take(self._reals(), half, rng)
        if self.mode == "paired":
            reals = self._partners(fakes, reals, rng)
        return np.stack([reals, fakes], axis=1).reshape(-1)[:count]

    def _partners(self, fakes: Indices, others: Indices, rng: np.random.Generator) -> Indices:
        """A real face of each fake's group; where there is none, the one from `others`."""
        reals_of: dict[str, list[int]] = {}
        for index in self._reals():
            reals_of.setdefault(self.manifest[index].group, []).append(int(index))
        own = (reals_of.get(self.manifest[fake].group) for fake in fakes)
        pairs = zip(own, others, strict=True)
        return np.array([rng.choice(group) if group else other for group, other in pairs], np.int64)

    def _reals(self) -> Indices:
        return np.array([i for i, s in enumerate(self.manifest) if not s.labels.is_fake], np.int64)

    def _fakes(self) -> Indices:
        return np.array([i for i, s in enumerate(self.manifest) if s.labels.is_fake], np.int64)

    def _fakes_of_generators(self) -> list[Indices]:
        found: dict[str, list[int]] = {}
        for index in self._fakes():
            name = self.manifest[index].labels.generator or "unknown"
            found.setdefault(name, []).append(int(index))
        return [np.array(found[name], np.int64) for name in sorted(found)]


def _take(indices: Indices, count: int, rng: np.random.Generator) -> Indices:
    """The first `count` of endless fresh permutations."""
    rounds = -(-count // len(indices))
    return np.concatenate([rng.permutation(indices) for _ in range(rounds)])[:count]


def _take_in_turn(groups: Sequence[Indices], count: int, rng: np.random.Generator) -> Indices:
    """One of each group in turn, the turn in a fresh order every round."""
    rounds = -(-count // len(groups))
    columns = [_take(group, rounds, rng) for group in groups]
    return rng.permuted(np.stack(columns, axis=1), axis=1).reshape(-1)[:count]


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
        if plan.batch_size % world_size:
            message = (
                f"batch_size {plan.batch_size} cannot be shared equally by {world_size} processes; "
                f"use a multiple of {world_size}"
            )
            raise ConfigError(message)
        share = plan.batch_size // world_size
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
        for packed in self._reader.read([[(int(i), epoch) for i in row] for row in rows]):
            if packed.errors:
                raise InputError(packed.errors[0].message)
            yield packed.batch


def training_loader(
    dataset: FaceDataset,
    plan: BatchPlan,
    *,
    epoch: int,
    start_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Load one epoch; for several epochs with `workers`, keep a `TrainingLoader`.

    Raises:
        ConfigError: `plan.batch_size` cannot be divided by `world_size`.
        InputError: a picture cannot be read; the message names it.
    """
    loader = TrainingLoader(dataset, plan, rank=rank, world_size=world_size, workers=workers)
    return loader.epoch(epoch, start_batch)


class ScoringLoader:
    """All faces in manifest order; unreadable ones are listed, not fatal.

    Attributes:
        errors: pictures that could not be read, known once the iteration has passed them.
    """

    def __init__(self, dataset: FaceDataset, batch_size: int, workers: int = 0) -> None:
        self.errors: list[Unreadable] = []
        keys = [(index, 0) for index in range(len(dataset))]
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


def scoring_loader(dataset: FaceDataset, batch_size: int, workers: int = 0) -> ScoringLoader:
    """Load every face once, in manifest order.

    Args:
        dataset: what is read; made with ``augment="none"``.
        batch_size: faces a batch; the last may hold fewer.
        workers: loader processes; 0 decodes in threads of this process.
    """
    return ScoringLoader(dataset, batch_size, workers)


@dataclass(frozen=True)
class _Loaded:
    batch: Batch
    errors: tuple[Unreadable, ...]


class _Reportable(Dataset[Face | Unreadable]):
    """The data set, with errors as items, so that a loader process can hand them over."""

    def __init__(self, dataset: FaceDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Face | Unreadable:
        return self.dataset.read_or_report(key)


class _Reader:
    """Keys to finished batches, in order and ahead of the consumer."""

    def __init__(self, dataset: FaceDataset, workers: int) -> None:
        self._items = _Reportable(dataset)
        self._order: list[list[Key]] = []
        self._processes: Iterable[PackedBatch] | None = None
        if workers:
            self._processes = DataLoader[Any](
                self._items,
                batch_sampler=_Current(self._order),
                num_workers=workers,
                collate_fn=pack,
                persistent_workers=True,
            )

    def read(self, batches: Sequence[list[Key]]) -> Iterator[_Loaded]:
        if self._processes is None:
            return _ahead(_finish(self._in_threads(batches)))
        self._order[:] = batches
        # The iterator starts the processes: in this thread, before another one runs.
        return _ahead(_finish(iter(self._processes)))

    def _in_threads(self, batches: Sequence[list[Key]]) -> Iterator[PackedBatch]:
        pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), "mfclip-decode")
        waiting: deque[list[Future[Face | Unreadable]]] = deque()
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


def _ahead(source: Generator[_Loaded, None, None]) -> Iterator[_Loaded]:
    """Run `source` in a thread, up to `PREFETCH` batches ahead; errors arrive in their place."""
    ready: queue.Queue[_Loaded | BaseException | None] = queue.Queue(PREFETCH)
    stop = threading.Event()

    def fill() -> None:
        try:
            for item in source:
                _put(ready, item, stop)
                if stop.is_set():
                    break
            _put(ready, None, stop)
        except BaseException as error:  # raised again where the batches are consumed
            _put(ready, error, stop)
        finally:
            source.close()

    thread = threading.Thread(target=fill, name="mfclip-feed", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _put(ready: queue.Queue[_T], item: _T, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
