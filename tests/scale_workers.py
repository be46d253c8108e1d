"""Workers that end in the middle of a part, for tests; a module that other processes can import."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

from mfclip.scale.part import Part, PartResult
from mfclip.scale.worker import ScoreJob, Worker, WorkerFacts


def _once(job: ScoreJob, name: str) -> bool:
    """Whether this is the first call of that name, in any process."""
    try:
        Path(job.out).parent.joinpath(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class DiesOnce(Worker):
    """The first worker that comes to part 2 is killed, as by a system without memory."""

    def score(self, part: Part) -> PartResult:
        if part.number == 2 and _once(self.job, "died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(part)


class DiesAlways(Worker):
    """Part 2 ends every worker."""

    def score(self, part: Part) -> PartResult:
        if part.number == 2:
            os._exit(1)
        return super().score(part)


class Raises(Worker):
    """Part 2 meets an error of our own."""

    def score(self, part: Part) -> PartResult:
        if part.number == 2:
            raise ZeroDivisionError("of our own making")
        return super().score(part)


class OfAnotherVersion(Worker):
    """A node with other settings than the driver's."""

    def ready(self) -> WorkerFacts:
        self.job = replace(self.job, frames=self.job.frames + 1)
        return super().ready()
