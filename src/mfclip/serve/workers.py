"""The processes that read images: kept warm, ended where they hang, never all taken by giants."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mfclip.errors import InputError
from mfclip.media.images import BYTES_PER_PIXEL
from mfclip.predict.face_reader import FaceReader, FoundFace
from mfclip.predict.prediction import Box
from mfclip.runtime.isolated import POLL_SECONDS, CrashError, TimeLimitError
from mfclip.runtime.provenance import usable_cores
from mfclip.serve import image_process
from mfclip.serve.isolation import Worker

LARGE = 16_000_000
"""Work (`mfclip.media.images.EncodedImage.work`) from which an image waits for others of its kind:
one process is always left for ordinary photographs."""

IMAGE_SECONDS = 20.0
"""For reading one image and finding its faces."""

START_SECONDS = 60.0
"""For a process to start; the first one of all imports everything."""

SPARE = 512 << 20
"""Bytes of memory that a process may take beyond those of the largest image's pixels."""


def nothing() -> None:
    """Check nothing."""


class Workers:
    """Processes that read images and cut out their faces; for any number of threads.

    Args:
        reader: cuts out the faces.
        max_pixels: of an image.
        count: processes, at least 2; None for one a core, and at most 8.
        seconds: for one image; then its process is ended.
    """

    def __init__(
        self,
        reader: FaceReader,
        *,
        max_pixels: int,
        count: int | None = None,
        seconds: float = IMAGE_SECONDS,
    ) -> None:
        self.count = count or min(8, max(2, usable_cores()))
        self._reader = reader
        self._max_pixels = max_pixels
        self._seconds = seconds
        # last in, first out: under little load few processes are started
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(self.count):
            self._free.put(None)
        self._large = threading.BoundedSemaphore(self.count - 1)
        self._door = threading.Lock()
        self._running: set[Worker] = set()
        self._is_closed = False

    def start(self) -> None:
        """Start all processes now, so that the first images need not wait for them."""
        places = [self._take(nothing) for _ in range(self.count)]
        for place in places:
            self._free.put(place or self._start(nothing))

    def read(
        self,
        path: Path,
        *,
        whole: bool,
        name: str,
        preview: bool = False,
        check: Callable[[], None] = nothing,
    ) -> list[FoundFace]:
        """Read an image and cut out its faces.

        Args:
            path: of the image.
            whole: take all of it as one face.
            name: by which the faces and errors name it.
            preview: make a small copy of the image for each face (the same one).
            check: called several times a second; what it raises ends the work.

        Raises:
            InputError: it cannot be read, or there is no face in it.
            RuntimeError: `close` was called.
        """
        task: dict[str, Any] = {"path": str(path), "whole": whole, "preview": preview}
        task["max_pixels"] = self._max_pixels
        header, arrays = self._ask({**task, "most_work": LARGE}, check)
        if "too_much" in header:
            while not self._large.acquire(timeout=POLL_SECONDS):
                check()
            try:
                header, arrays = self._ask({**task, "most_work": None}, check)
            finally:
                self._large.release()
        if "error" in header:
            raise InputError(header["error"].removeprefix(f"{path}: "))
        pixels, *previews = arrays
        shared = {"path": name, "preview": previews[0] if previews else None}
        return [
            _read_face({**entry, **shared, "pixels": face})
            for entry, face in zip(header["faces"], pixels, strict=True)
        ]

    def close(self) -> None:
        """End all processes at once, whatever they are doing."""
        with self._door:
            self._is_closed = True
            for worker in self._running:
                worker.kill()  # who listens to it ends it
        with suppress(queue.Empty):
            while True:
                if (idle := self._free.get_nowait()) is not None:
                    idle.end()

    def _ask(
        self, task: dict[str, Any], check: Callable[[], None]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Let a process do a task; one that fails is ended, and another takes its place later."""
        worker = self._take(check)
        kept: Worker | None = None
        try:
            worker = worker or self._start(check)
            worker.say(task)
            answer = worker.hear(check, seconds=self._seconds)
            kept = worker
        except TimeLimitError:
            message = f"reading it took longer than {self._seconds:g} seconds"
            raise InputError(f"{message}; save it again as an ordinary JPEG or PNG") from None
        except CrashError:
            if self._is_closed:
                raise RuntimeError("the workers were closed") from None
            message = "it made its decoder crash, or takes more memory than is allowed"
            raise InputError(f"{message}; it may be damaged, get it anew") from None
        finally:
            if kept is None and worker is not None:
                self._forget(worker)
            self._free.put(kept)
        return answer

    def _take(self, check: Callable[[], None]) -> Worker | None:
        """Wait for a free place; return the process in it, if one runs there."""
        while True:
            check()
            if self._is_closed:
                raise RuntimeError("the workers were closed")
            with suppress(queue.Empty):
                return self._free.get(timeout=POLL_SECONDS)

    def _start(self, check: Callable[[], None]) -> Worker:
        """Start a process and wait until it can work, which is not the image's time."""
        memory = self._max_pixels * max(BYTES_PER_PIXEL.values()) + SPARE
        worker = Worker(image_process.main, self._reader, memory)
        with self._door:
            if not self._is_closed:
                self._running.add(worker)
        try:
            if self._is_closed:
                raise RuntimeError("the workers were closed")
            worker.hear(check, seconds=START_SECONDS)
        except BaseException:
            self._forget(worker)
            raise
        return worker

    def _forget(self, worker: Worker) -> None:
        with self._door:
            self._running.discard(worker)
        worker.end()


def _read_face(entry: dict[str, Any]) -> FoundFace:
    lists: dict[str, Any] = {name: tuple(entry.pop(name)) for name in ("warnings", "void", "poor")}
    box = entry.pop("box")
    return FoundFace(box=Box(**box) if box else None, **lists, **entry)
