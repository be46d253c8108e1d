"""Workers as Ray's actors: one a GPU, or a few cores.

Ray restarts nothing and repeats nothing here (``max_restarts=0``): its own retries of an actor are
spent within a second while a node is gone. The loop starts another actor instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mfclip.errors import require
from mfclip.scale.loop import Event
from mfclip.scale.part import Part
from mfclip.scale.worker import ScoreJob, Worker


@dataclass(frozen=True, slots=True)
class Ask:
    """What each worker asks of the cluster.

    Attributes:
        cpus: cores.
        gpus: may be a part of one.
    """

    cpus: int = 1
    gpus: float = 0.0


class RayPool:
    """Workers on a cluster.

    Args:
        job: what is to be done.
        ask: what a worker needs.
        address: of the cluster; None starts one on this machine.
        make: makes a worker, in its own process.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        job: ScoreJob,
        ask: Ask,
        *,
        address: str | None = None,
        make: Callable[[ScoreJob], Worker] = Worker,
    ) -> None:
        self._ray: Any = require("ray", extra="cluster")
        self._owns = not self._ray.is_initialized()
        if self._owns:
            self._ray.init(address=address, include_dashboard=False, log_to_driver=False)
        self._job, self._ask, self._make = job, ask, make
        self._actors: dict[int, Any] = {}
        self._running: dict[Any, tuple[int, str]] = {}
        self._count = 0

    def most_workers(self) -> int:
        """Count the workers that the cluster has room for now; at least 1."""
        there = self._ray.cluster_resources()
        room = [there.get("CPU", 0) / self._ask.cpus] if self._ask.cpus else []
        room += [there.get("GPU", 0) / self._ask.gpus] if self._ask.gpus else []
        return max(1, int(min(room, default=1)))

    def start(self) -> int:
        """See `Pool`."""
        options = {
            "num_cpus": self._ask.cpus,
            "num_gpus": self._ask.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        actor = self._ray.remote(_Actor).options(**options).remote(self._make, self._job)
        self._count += 1
        self._actors[self._count] = actor
        self._running[actor.ready.remote()] = (self._count, "ready")
        return self._count

    def send(self, worker: int, part: Part) -> None:
        """See `Pool`."""
        self._running[self._actors[worker].score.remote(part)] = (worker, "done")

    def wait(self, seconds: float) -> list[Event]:
        """See `Pool`."""
        waiting = list(self._running)
        ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=seconds)
        return [self._event(each) for each in ended]

    def describe(self) -> str:
        """See `Pool`."""
        there = self._ray.cluster_resources()
        gpus = f" and {self._ask.gpus:g} GPU(s)" if self._ask.gpus else ""
        return (
            f"each asks for {self._ask.cpus:g} core(s){gpus} on one machine, and the cluster has "
            f"{there.get('CPU', 0):g} core(s) and {there.get('GPU', 0):g} GPU(s) on "
            f"{len(self._ray.nodes())} machine(s); ask for less, or add machines"
        )

    def close(self) -> None:
        """End all workers, and the cluster if it was started here."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        if self._owns:
            self._ray.shutdown()

    def _event(self, reference: Any) -> Event:
        worker, kind = self._running.pop(reference)
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # our own code raised; the actor lives
            return Event(worker, "raised", str(error))
        except self._ray.exceptions.RayError as error:
            del self._actors[worker]
            return Event(worker, "died", str(error).strip().partition("\n")[0])
        return Event(worker, "ready" if kind == "ready" else "done", value)


class _Actor:
    """Hands on to a worker that is made where it runs."""

    def __init__(self, make: Callable[[ScoreJob], Worker], job: ScoreJob) -> None:
        self._worker = make(job)

    def ready(self) -> Any:
        return self._worker.ready()

    def score(self, part: Part) -> Any:
        return self._worker.score(part)
