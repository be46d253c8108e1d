"""What is counted, in the form that Prometheus collects."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FACES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one server; two servers in one process do not mix theirs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self.verdicts = Counter(
            "mfclip_verdicts",
            "Faces in pictures, and videos, by what they were called.",
            ["verdict"],
            registry=self.registry,
        )
        self.queue = Gauge(
            "mfclip_queue", "Pictures being received, waiting or judged.", registry=self.registry
        )
        self._jobs = Gauge("mfclip_jobs", "Jobs held.", ["status"], registry=self.registry)

    def render(self, jobs: Mapping[str, int]) -> bytes:
        """Return all figures as text.

        Args:
            jobs: status -> jobs held.
        """
        for status, count in jobs.items():
            self._jobs.labels(status).set(count)
        return generate_latest(self.registry)
