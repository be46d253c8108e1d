"""One running server: its model, threads, jobs, uploads and figures, and their common end."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

from mfclip.predict.predictor import Predictor
from mfclip.runtime.memory import release_freed_memory
from mfclip.serve.batching import BatchedEngine
from mfclip.serve.jobs import Job, Jobs, Outcome
from mfclip.serve.judging import Judge
from mfclip.serve.limits import Limits
from mfclip.serve.metrics import Metrics
from mfclip.serve.problem import Problem, busy
from mfclip.serve.upload import Upload, Uploads, private_folder

RETRY_SECONDS = 1
"""When to come back after the queue of pictures was full."""

TIDY_SECONDS = 5
"""How often a server that has nothing to do looks whether it did something before."""

THREADS = 8
"""Pictures decoded and searched for faces at the same time."""


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
        self._pictures = self._open.enter_context(ThreadPoolExecutor(THREADS, "mfclip-picture"))
        videos = self._open.enter_context(ThreadPoolExecutor(1, "mfclip-video"))
        self.metrics = Metrics()
        self.engine = BatchedEngine(
            predictor.engine, batch_size=batch_size, count=self.metrics.batch.observe
        )
        self._open.callback(self.engine.close)
        self.predictor = predictor.using(engine=self.engine)
        self.judge = Judge(self.predictor, self.limits)
        self.jobs = Jobs(self.limits, self._work, {"picture": self._pictures, "video": videos})
        self._in_hand = self._taken = 0

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
        """Judge a picture while its sender waits, and delete it.

        Raises:
            Problem: 422, nothing in it can be judged; 503, it takes too long.
        """
        work = asyncio.wrap_future(self._pictures.submit(self._judge, upload))
        try:
            return await asyncio.wait_for(work, self.limits.request_seconds)
        except TimeoutError:
            detail = f"the answer took longer than {self.limits.request_seconds:g} seconds"
            raise Problem(503, "too_slow", detail, {"Retry-After": "10"}) from None
        finally:
            upload.delete()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the server stops, then leave nothing behind."""
        tidying = asyncio.create_task(self._tidy())
        try:
            yield
        finally:
            tidying.cancel()
            await self.jobs.close()
            await asyncio.to_thread(self._open.close)

    def kill(self) -> None:
        """Leave nothing behind when the process is about to be ended by force."""
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

    def _judge(self, upload: Upload) -> dict[str, Any]:
        outcome = self.judge.judge_picture(upload)
        self._count(outcome.document)
        return outcome.document

    def _work(self, job: Job) -> Outcome:
        if job.kind == "video":
            outcome = self.judge.judge_video(job.upload, check=job.check, progress=job.advance)
        else:
            outcome = self.judge.judge_picture(job.upload, report=True)
        self._count(outcome.document)
        return outcome

    def _count(self, document: dict[str, Any]) -> None:
        for entry in [*document["predictions"], *document["videos"]]:
            self.metrics.verdicts.labels(entry["verdict"]).inc()
