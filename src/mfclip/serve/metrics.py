"""What is counted, in the form that Prometheus collects."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FACES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one server; two servers in one process do not mix theirs.

    Args:
        count_jobs: status -> jobs held.
    """

    def __init__(self, count_jobs: Callable[[], dict[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self._count_jobs = count_jobs
        self.requests = Counter(
            "mfclip_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "mfclip_request_seconds",
            "Time until a request was answered, seconds.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "mfclip_batch_faces",
            "Faces in one forward pass.",
            buckets=FACES,
            registry=self.registry,
        )
        self.faces = Counter("mfclip_faces", "Faces judged.", ["verdict"], registry=self.registry)
        self.queue = Gauge(
            "mfclip_queue", "Pictures being received, waiting or judged.", registry=self.registry
        )
        self._jobs = Gauge("mfclip_jobs", "Jobs held.", ["status"], registry=self.registry)

    def render(self) -> bytes:
        """Return all figures as text."""
        for status, count in self._count_jobs().items():
            self._jobs.labels(status).set(count)
        return generate_latest(self.registry)
