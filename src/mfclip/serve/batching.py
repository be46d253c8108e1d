"""Many threads ask, one thread judges: faces that arrive together share a forward pass."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mfclip.engines import Engine, Judged
from mfclip.errors import ConfigError

PATIENCE = 0.004
"""Seconds for which a batch that is not full waits for more."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Faces of one caller, and where the answer goes."""

    images: Float[Tensor, "b 3 h w"]
    answer: Future[Judged] = field(default_factory=Future)


class BatchedEngine:
    """An engine that any number of threads may use at once.

    Args:
        engine: what judges, in one thread only.
        batch_size: faces that go through it together, at most.
        patience: seconds for which a batch that is not full waits for more.
        count: told the number of faces of every forward pass.

    Attributes:
        name: of the engine inside.
        precision: likewise.
        image_size: likewise.
        facts: likewise.

    Raises:
        ConfigError: `batch_size` is below 1.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        batch_size: int = 32,
        patience: float = PATIENCE,
        count: Callable[[int], object] = lambda _: None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"expected batch_size of at least 1, but got {batch_size}")
        self.engine = engine
        self.name = engine.name
        self.precision = engine.precision
        self.image_size = engine.image_size
        self.facts = engine.facts
        self._batch_size = batch_size
        self._patience = patience
        self._count = count
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._is_closed = False
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mfclip-model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still judges."""
        return self._thread.is_alive() and not self._is_closed

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        """Judge faces, together with those that others ask about at the same time.

        Raises:
            RuntimeError: the engine was closed.
        """
        asked = _Asked(images)
        with self._door:
            if self._is_closed:
                raise RuntimeError("the engine was closed")
            self._waiting.put(asked)
        return asked.answer.result()

    def close(self) -> None:
        """Answer what was asked so far and end the thread; twice does no harm."""
        with self._door:
            if not self._is_closed:
                self._is_closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, is_last = self._collect(first)
            self._answer(batch)
            if is_last:
                break

    def _collect(self, first: _Asked) -> tuple[list[_Asked], bool]:
        """Take what waits, up to a full batch; say whether the end came with it."""
        batch, faces = [first], len(first.images)
        end = time.monotonic() + self._patience
        while faces < self._batch_size:
            try:
                asked = self._waiting.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if asked is None:
                return batch, True
            batch.append(asked)
            faces += len(asked.images)
        return batch, False

    def _answer(self, batch: Sequence[_Asked]) -> None:
        try:
            judged = self._forward(torch.cat([asked.images for asked in batch]))
        except Exception as error:  # of whatever the engine runs on
            self._answer_singly(batch, error)
            return
        first = 0
        for asked in batch:
            last = first + len(asked.images)
            asked.answer.set_result(_rows(judged, first, last))
            first = last

    def _answer_singly(self, batch: Sequence[_Asked], error: Exception) -> None:
        """One caller's faces must not fail another's; smaller batches also need less memory."""
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        for asked in batch:
            self._answer([asked])

    def _forward(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        parts = []
        for first in range(0, len(images), self._batch_size):
            part = images[first : first + self._batch_size]
            self._count(len(part))
            parts.append(self.engine.judge(part))
        return parts[0] if len(parts) == 1 else _join(parts)


def _rows(judged: Judged, first: int, last: int) -> Judged:
    features, patches = judged.features, judged.patch_index
    return Judged(
        judged.logits[first:last],
        None if features is None else features[first:last],
        None if patches is None else patches[first:last],
    )


def _join(parts: Sequence[Judged]) -> Judged:
    features = [part.features for part in parts if part.features is not None]
    patches = [part.patch_index for part in parts if part.patch_index is not None]
    return Judged(
        torch.cat([part.logits for part in parts]),
        torch.cat(features) if features else None,
        torch.cat(patches) if patches else None,
    )
