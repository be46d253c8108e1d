"""One running server: its model, threads, jobs, uploads and figures, and their common end."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from mfclip.predict.face_reader import FaceReader
from mfclip.predict.faces import DetectedFaces
from mfclip.predict.predictor import Predictor
from mfclip.runtime.memory import release_freed_memory
from mfclip.serve.batching import BatchedEngine
from mfclip.serve.jobs import Job, Jobs, Outcome
from mfclip.serve.judging import Judge
from mfclip.serve.limits import Limits
from mfclip.serve.metrics import Metrics
from mfclip.serve.problem import Problem, busy
from mfclip.serve.upload import Upload, Uploads, private_folder
from mfclip.serve.workers import Workers

RETRY_SECONDS = 1
"""When to come back after the queue of pictures was full."""

TIDY_SECONDS = 5
"""How often a server that has nothing to do looks whether it did something before."""


class Service:
    """What stands behind the routes.

    Args:
        predictor: what judges.
        limits: what is taken on at most.
        batch_size: faces that go through the model together, at most.
    """

    def __init__(
        self,
        predictor: Predictor,
        limits: Limits | None = None,
        *,
        batch_size: int = 32,
    ) -> None:
        self.limits = limits or Limits()
        self._open = ExitStack()
        self.folder = self._open.enter_context(private_folder())
        self.uploads = Uploads(self.folder, self.limits)
        self._threads = self._open.enter_context(
            ThreadPoolExecutor(self.limits.queue + self.limits.jobs, "mfclip-image")
        )
        videos = self._open.enter_context(ThreadPoolExecutor(1, "mfclip-video"))
        self.metrics = Metrics()
        self.engine = BatchedEngine(
            predictor.engine, batch_size=batch_size, count=self.metrics.batch.observe
        )
        self._open.callback(self.engine.close)
        self.predictor = predictor.using(engine=self.engine)
        self.workers = Workers(_lighten(predictor.reader), max_pixels=self.limits.max_pixels)
        self._open.callback(self.workers.close)
        self.judge = Judge(self.predictor, self.limits, self.workers)
        self.jobs = Jobs(self.limits, self._work, {"picture": self._threads, "video": videos})
        self._in_hand = self._taken = 0
        self._is_stopping = False

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold one place of the queue.

        Raises:
            Problem: 429, it is full.
        """
        self.check_room()
        self._in_hand += 1
        self._taken += 1
        self.metrics.queue.set(self._in_hand)
        try:
            yield
        finally:
            self._in_hand -= 1
            self.metrics.queue.set(self._in_hand)

    def check_room(self) -> None:
        """Refuse where no more pictures are taken.

        Raises:
            Problem: 429, the queue is full.
        """
        if self._in_hand >= self.limits.queue:
            raise busy(f"{self.limits.queue} pictures are waiting already", RETRY_SECONDS)

    async def judge_now(self, upload: Upload) -> dict[str, Any]:
        """Judge an image while its sender waits, and delete it.

        Raises:
            Problem: 422, nothing in it can be judged; 503, it takes too long.
        """
        is_over = threading.Event()

        def check() -> None:
            if is_over.is_set():
                raise Problem(503, "stopping", "nobody waits for the answer any more")

        work = asyncio.wrap_future(self._threads.submit(self._judge, upload, check))
        try:
            return await asyncio.wait_for(work, self.limits.request_seconds)
        except TimeoutError:
            detail = f"the answer took longer than {self.limits.request_seconds:g} seconds"
            raise Problem(503, "too_slow", detail, {"Retry-After": "10"}) from None
        finally:
            is_over.set()
            upload.delete()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the server stops, then leave nothing behind."""
        tidying = asyncio.create_task(self._tidy())
        try:
            yield
        finally:
            tidying.cancel()
            self._is_stopping = True
            await self.jobs.close()
            await asyncio.to_thread(self._open.close)

    def kill(self) -> None:
        """Leave nothing behind when the process is about to be ended by force."""
        self.workers.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def is_alive(self) -> bool:
        """Whether it still judges."""
        return self.engine.is_alive

    async def _tidy(self) -> None:
        """After work, once nothing is in hand, hand freed memory back to the system."""
        tidied = 0
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if self._taken > tidied and not self._in_hand and not self.jobs.count()["running"]:
                tidied = self._taken
                await asyncio.to_thread(release_freed_memory)

    def _judge(self, upload: Upload, check: Callable[[], None]) -> dict[str, Any]:
        try:
            outcome = self.judge.judge_image(upload, check=check)
        except RuntimeError:
            if self._is_stopping:
                raise Problem(503, "stopping", "the server is stopping") from None
            raise
        self._count(outcome.document)
        return outcome.document

    def _work(self, job: Job) -> Outcome:
        if job.kind == "video":
            outcome = self.judge.judge_video(job.upload, check=job.check, progress=job.advance)
        else:
            outcome = self.judge.judge_image(job.upload, check=job.check, report=True)
        self._count(outcome.document)
        return outcome

    def _count(self, document: dict[str, Any]) -> None:
        for entry in [*document["predictions"], *document["videos"]]:
            self.metrics.verdicts.labels(entry["verdict"]).inc()


def _lighten(reader: FaceReader) -> FaceReader:
    """Return one for the processes that read images: PyTorch, which they have, starts sooner."""
    finder = reader.finder
    if not isinstance(finder, DetectedFaces):
        return reader
    return replace(reader, finder=DetectedFaces(margin=finder.margin, align=finder.align))
