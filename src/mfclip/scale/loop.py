"""The loop that gives parts to workers, and gives a part to another worker if its own dies.

It knows nothing of where workers run: a `Pool` does (`LocalPool` here, `ray_pool`).
"""

from __future__ import annotations

import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from mfclip.errors import ConfigError, InputError
from mfclip.report.results import Run, tell_difference
from mfclip.scale.part import FailedPart, Part, PartResult
from mfclip.scale.worker import ScoreJob, Worker, WorkerFacts

IN_A_ROW = 10
"""Parts that may fail without one that succeeds between them, before the run stops."""

LOOK = 0.5
"""Seconds between two looks at the workers."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a worker.

    Attributes:
        worker: its number.
        kind: it is ready, has done its part, raised an error and lives, or died.
        value: its facts when ready, its result when done, and else the reason.
    """

    worker: int
    kind: Literal["ready", "done", "raised", "died"]
    value: WorkerFacts | PartResult | str


@runtime_checkable
class Pool(Protocol):
    """Where workers run. Each has a number; one that died is not used again."""

    def start(self) -> int:
        """Begin to start a worker; an event says when it is ready."""
        ...

    def send(self, worker: int, part: Part) -> None:
        """Give a part to a worker that is ready and has none."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, after at most so many seconds."""
        ...

    def describe(self) -> str:
        """Say what a worker asks for, and what there is."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How far the loop goes.

    Attributes:
        workers: at the same time.
        tries: workers that may die of one part before it is given up.
        start_timeout: seconds without any worker that is ready before the run stops.
    """

    workers: int = 1
    tries: int = 3
    start_timeout: float = 600.0


Report = Callable[[PartResult | FailedPart | str], None]
"""Told every part that is done or failed, and in words that a worker died."""


@dataclass(slots=True)
class _State:
    """Which worker does what, and which parts wait."""

    parts: Iterator[Part]
    starting: set[int] = field(default_factory=set)
    idle: deque[int] = field(default_factory=deque)
    busy: dict[int, Part] = field(default_factory=dict)
    again: deque[Part] = field(default_factory=deque)
    deaths: Counter[int] = field(default_factory=Counter)
    bad_starts: int = 0
    failed_in_a_row: int = 0
    last_ready: float = field(default_factory=time.monotonic)

    def next_part(self) -> Part | None:
        """Parts that a worker died of come last: a bad one holds nothing up."""
        part = next(self.parts, None)
        return self.again.popleft() if part is None and self.again else part


class GivenUpError(InputError):
    """Part after part failed, so that going on would be in vain."""


def run_parts(pool: Pool, run: Run, parts: Iterator[Part], limits: Limits, report: Report) -> None:
    """Score all parts; each is reported once as done or failed.

    A part whose worker dies is given to another one, up to ``limits.tries`` times; one whose
    worker raises an error would raise it again, and fails at once.

    Args:
        pool: where workers run.
        run: what every worker must score with.
        parts: read one after the other, as workers become free.
        limits: see there.
        report: told of every part.

    Raises:
        ConfigError: no worker becomes ready, or one has other weights, settings or version.
        GivenUpError: `IN_A_ROW` parts failed one after the other.
    """
    state = _State(parts)
    state.starting = {pool.start() for _ in range(limits.workers)}
    while True:
        while state.idle and (part := state.next_part()) is not None:
            worker = state.idle.popleft()
            state.busy[worker] = part
            pool.send(worker, part)
        if state.idle and not state.busy:
            return
        _check_start(pool, state, limits)
        for event in pool.wait(LOOK):
            _handle(event, pool, run, state, limits, report)


def _check_start(pool: Pool, state: _State, limits: Limits) -> None:
    if state.idle or state.busy:
        state.last_ready = time.monotonic()
    elif time.monotonic() - state.last_ready > limits.start_timeout:
        raise ConfigError(
            f"no worker could start within {limits.start_timeout:g} seconds: {pool.describe()}"
        )


def _handle(
    event: Event, pool: Pool, run: Run, state: _State, limits: Limits, report: Report
) -> None:
    worker = event.worker
    if isinstance(event.value, WorkerFacts):
        _compare(event.value, run)
        state.starting.discard(worker)
        state.idle.append(worker)
        state.bad_starts = 0
    elif isinstance(event.value, PartResult):
        del state.busy[worker]
        state.idle.append(worker)
        state.failed_in_a_row = 0
        report(event.value)
    elif worker in state.starting:
        _take_bad_start(event, pool, state, limits)
    else:
        part = state.busy.pop(worker)
        state.deaths[part.number] += 1
        tries = state.deaths[part.number]
        if event.kind == "raised":
            state.idle.append(worker)
        else:
            report(f"a worker died of part {part.number} ({event.value}); another one starts")
            state.starting.add(pool.start())
        if event.kind == "died" and tries < limits.tries:
            state.again.append(part)
            return
        stop = part.start + part.num_rows
        report(FailedPart(part.number, part.start, stop, tries, str(event.value)))
        state.failed_in_a_row += 1
        if state.failed_in_a_row >= IN_A_ROW:
            raise GivenUpError(
                f"stopped: {IN_A_ROW} parts failed one after the other, the last one with: "
                f"{_last_line(str(event.value))}"
            )


def _take_bad_start(event: Event, pool: Pool, state: _State, limits: Limits) -> None:
    """Start another worker, unless they all end so or the error would come again."""
    state.starting.discard(event.worker)
    state.bad_starts += 1
    if event.kind == "raised" or state.bad_starts >= limits.tries:
        raise ConfigError(f"a worker could not start: {_last_line(str(event.value))}")
    state.starting.add(pool.start())


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _compare(facts: WorkerFacts, run: Run) -> None:
    if facts.run.key != run.key:
        message = tell_difference("a worker", facts.run.to_json(), run.to_json())
        told = message.partition("(")[2].partition(")")[0]
        raise ConfigError(
            f"a worker (process {facts.pid}) would score with other weights, settings or version "
            f"than this process ({told}); no part was given to it: install the same everywhere"
        )


class LocalPool:
    """One worker, in this process.

    Args:
        job: what is to be done.
        make: makes the worker.
    """

    def __init__(self, job: ScoreJob, make: Callable[[ScoreJob], Worker] = Worker) -> None:
        self._worker = make(job)
        self._part: Part | None = None

    def start(self) -> int:
        """See `Pool`; there is one."""
        return 0

    def send(self, worker: int, part: Part) -> None:
        """See `Pool`."""
        del worker
        self._part = part

    def wait(self, seconds: float) -> list[Event]:
        """Do what there is to do, however long that takes."""
        del seconds
        part, self._part = self._part, None
        if part is None:
            return [Event(0, "ready", self._worker.ready())]
        try:
            return [Event(0, "done", self._worker.score(part))]
        except Exception:  # a part that fails must not end the others
            return [Event(0, "raised", traceback.format_exc())]

    def describe(self) -> str:
        """See `Pool`."""
        return "one worker in this process"

    def close(self) -> None:
        """See `Pool`."""
