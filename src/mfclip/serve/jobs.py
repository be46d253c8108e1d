"""Work that outlives its request: its status, progress and result, for as long as they are kept."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from mfclip.serve.limits import Limits
from mfclip.serve.media import MediaKind
from mfclip.serve.problem import Problem, busy
from mfclip.serve.schema import JobDocument
from mfclip.serve.upload import Upload

Status: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]

RETRY_SECONDS = 10
"""When to come back after the queue of jobs was full."""

QUIET_SECONDS = 10.0
"""An event stream without an event for so long says that it is still there."""

FOLLOWERS = 16
"""Event streams of one job at the same time: each holds a connection as long as the job lasts."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job gives.

    Attributes:
        document: the JSON form.
        report: the page a person can file, HTML; None if it was not asked for.
        frames: index of a judged frame -> JPEG.
    """

    document: dict[str, Any]
    report: bytes | None = None
    frames: Mapping[int, bytes] = field(default_factory=dict)


class Job:
    """One piece of work; its attributes change in the event loop's thread only.

    Args:
        upload: what is judged.
        kind: whether that is a picture or a video.

    Attributes:
        stop: set when the result is no longer wanted; the work looks at it now and then.
        is_late: whether that is because its time is over.
    """

    def __init__(self, upload: Upload, kind: MediaKind) -> None:
        self.id = secrets.token_urlsafe(16)
        self.upload = upload
        self.kind = kind
        self.status: Status = "queued"
        self.progress: tuple[int, int | None] = (0, 1 if kind == "picture" else None)
        self.created = datetime.now(UTC)
        self.expires: datetime | None = None
        self.outcome: Outcome | None = None
        self.error: Problem | None = None
        self.stop = threading.Event()
        self.is_late = False
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._followers = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in {"done", "failed", "cancelled"}

    def start(self) -> None:
        """Note that the work begins; may be called from any thread.

        Raises:
            Problem: 503, the result is no longer wanted.
        """
        self.check()
        self._loop.call_soon_threadsafe(self.change, "running")

    def end_late(self) -> None:
        """Stop the work because its time is over."""
        self.is_late = True
        self.stop.set()

    def check(self) -> None:
        """Leave off where the result is no longer wanted; may be called from any thread.

        Raises:
            Problem: 503, with the reason.
        """
        if self.is_late:
            raise Problem(503, "too_slow", "judging took longer than this server allows a job")
        if self.stop.is_set():
            raise Problem(503, "stopping", "the job was stopped")

    def advance(self, done: int, total: int | None) -> None:
        """Note progress; may be called from any thread.

        Raises:
            Problem: 503, the result is no longer wanted: leave off.
        """
        self.check()
        self._loop.call_soon_threadsafe(self.change, self.status, (done, total))

    def change(self, status: Status, progress: tuple[int, int | None] | None = None) -> None:
        """Take a new status and tell all who follow; one that is over stays as it is."""
        if self.is_over:
            return
        self.status = status if progress is None else self.status
        self.progress = progress or self.progress
        self._changed.set()
        self._changed = asyncio.Event()

    def follow(self) -> AsyncIterator[Status | None]:
        """Yield the status at once and after every change until it is over; None for no news.

        Raises:
            Problem: 429, too many follow it already.
        """
        if self._followers >= FOLLOWERS:
            raise busy(f"{FOLLOWERS} connections follow this job already", RETRY_SECONDS)
        return self._follow()

    async def _follow(self) -> AsyncIterator[Status | None]:
        self._followers += 1
        try:
            while True:
                changed = self._changed
                yield self.status
                if self.is_over:
                    return
                while not changed.is_set():
                    try:
                        await asyncio.wait_for(changed.wait(), QUIET_SECONDS)
                    except TimeoutError:
                        yield None
        finally:
            self._followers -= 1

    def to_json(self) -> JobDocument:
        """Return the job as the interface shows it."""
        own = f"/v1/jobs/{self.id}"
        done, total = self.progress
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.upload.name,
            "status": self.status,
            "progress": {"done": done, "total": total},
            "created": _write_time(self.created),
            "expires": _write_time(self.expires) if self.expires else None,
            "result": self.outcome.document if self.outcome else None,
            "error": self.error.to_json() if self.error else None,
            "links": {"self": own, "events": f"{own}/events", "report": f"{own}/report"},
        }


Work: TypeAlias = Callable[[Job], Outcome]


class Jobs:
    """All jobs of a server.

    Args:
        limits: of number and time.
        work: judges one job, in a thread.
        threads: media kind -> where it is judged; the number of threads bounds how many at a time.
    """

    def __init__(self, limits: Limits, work: Work, threads: Mapping[MediaKind, Executor]) -> None:
        self._limits = limits
        self._work = work
        self._threads = threads
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, upload: Upload, kind: MediaKind) -> Job:
        """Begin a job.

        Raises:
            Problem: 429, there are too many.
        """
        if sum(not job.is_over for job in self._jobs.values()) >= self._limits.jobs:
            raise busy(f"{self._limits.jobs} jobs are waiting already", RETRY_SECONDS)
        job = Job(upload, kind)
        self._jobs[job.id] = job
        self._forget_oldest()
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def find(self, name: str) -> Job:
        """Return a job by its id.

        Raises:
            Problem: 404, there is none.
        """
        job = self._jobs.get(name)
        if job is None:
            detail = "no such job; it may have expired or been deleted"
            raise Problem(404, "not_found", detail)
        return job

    def delete(self, name: str) -> None:
        """Stop a job and forget it.

        Raises:
            Problem: 404, there is none.
        """
        job = self.find(name)
        del self._jobs[name]
        job.stop.set()
        job.change("cancelled")
        job.upload.delete()

    def count(self) -> dict[str, int]:
        """Count the jobs by status."""
        statuses = ("queued", "running", "done", "failed")
        return {**dict.fromkeys(statuses, 0), **Counter(job.status for job in self._jobs.values())}

    async def close(self) -> None:
        """Stop and forget everything."""
        for name in list(self._jobs):
            self.delete(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        try:
            job.outcome = await loop.run_in_executor(self._threads[job.kind], self._begin, job)
            job.progress = (job.progress[1] or job.progress[0], job.progress[1])
            status: Status = "done"
        except Problem as problem:
            job.error, status = problem, "failed"
        except Exception:
            if not job.stop.is_set():  # else its upload was taken away beneath it
                _log.exception("a job failed for a reason that was not foreseen")
            job.error = Problem(500, "internal", "an error of the server; its log says which")
            status = "failed"
        finally:
            job.upload.delete()
        job.expires = datetime.now(UTC) + timedelta(seconds=self._limits.keep_seconds)
        job.change(status)
        loop.call_later(self._limits.keep_seconds, self._jobs.pop, job.id, None)

    def _begin(self, job: Job) -> Outcome:
        """Work in a thread, within the time of a job."""
        job.start()
        timer = threading.Timer(self._limits.job_seconds, job.end_late)
        timer.daemon = True
        timer.start()
        try:
            return self._work(job)
        finally:
            timer.cancel()

    def _forget_oldest(self) -> None:
        """Keep at most as many finished jobs as may wait, times `KEPT`: results take memory."""
        over = [name for name, job in self._jobs.items() if job.is_over]
        for name in over[: max(0, len(over) - KEPT * self._limits.jobs)]:
            del self._jobs[name]


KEPT = 8
"""Finished jobs that are kept for each one that may wait."""


def _write_time(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
