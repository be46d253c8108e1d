"""The loop, driven by workers that die on command; what it must do is counted independently."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfclip.errors import ConfigError
from mfclip.report.results import Run
from mfclip.scale import loop
from mfclip.scale.loop import Event, GivenUpError, Limits, run_parts
from mfclip.scale.part import FailedPart, Part, PartResult, Row
from mfclip.scale.source import split
from mfclip.scale.worker import WorkerFacts

RUN = Run({"weights_sha256": "a" * 64}, {"source": "manifest"})


@dataclass
class ScriptedPool:
    """Workers that die of a part as often as they are told, and then do it.

    Attributes:
        deaths: number of a part to how many workers die of it.
        raising: parts that raise an error.
        starts: what starting gives, in turn; then workers that become ready.
    """

    deaths: Mapping[int, int]
    raising: frozenset[int] = frozenset()
    starts: deque[object] = field(default_factory=deque)
    sent: Counter[int] = field(default_factory=Counter)
    most_at_once: int = 0
    _count: int = 0
    _alive: set[int] = field(default_factory=set)
    _events: list[Event] = field(default_factory=list)

    def start(self) -> int:
        self._count += 1
        found = self.starts.popleft() if self.starts else WorkerFacts(RUN, self._count, "cpu")
        if isinstance(found, WorkerFacts):
            self._alive.add(self._count)
            self._events.append(Event(self._count, "ready", found))
        elif found is not None:
            self._events.append(Event(self._count, "died", str(found)))
        return self._count

    def send(self, worker: int, part: Part) -> None:
        assert worker in self._alive, "a part was given to a worker that is not ready"
        self._alive.remove(worker)
        self.sent[part.number] += 1
        if part.number in self.raising:
            event = Event(worker, "raised", "Traceback\nValueError: bad part")
        elif self.sent[part.number] <= self.deaths.get(part.number, 0):
            event = Event(worker, "died", "killed")
        else:
            event = Event(worker, "done", PartResult(part.number, part.num_rows, 0, 1.0))
        self._events.append(event)

    def wait(self, seconds: float) -> list[Event]:
        assert seconds > 0
        self.most_at_once = max(self.most_at_once, len(self._events))
        events, self._events = self._events, []
        self._alive |= {event.worker for event in events if event.kind != "died"}
        return events

    def describe(self) -> str:
        return "each asks for a GPU, and there is none"

    def close(self) -> None:
        pass


def parts(count: int) -> list[Part]:
    return list(split((Row(f"{number}.jpg") for number in range(2 * count)), 2))


def run(pool: ScriptedPool, count: int, limits: Limits) -> list[PartResult | FailedPart | str]:
    reports: list[PartResult | FailedPart | str] = []
    run_parts(pool, RUN, iter(parts(count)), limits, reports.append)
    return reports


@given(
    deaths=st.dictionaries(st.integers(0, 7), st.integers(0, 5)),
    workers=st.integers(1, 4),
    tries=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_every_part_ends_once_whatever_dies(
    deaths: dict[int, int], workers: int, tries: int
) -> None:
    pool = ScriptedPool(deaths)
    reports = run(pool, 8, Limits(workers, tries))
    done = Counter(each.number for each in reports if isinstance(each, PartResult))
    failed = {each.number: each for each in reports if isinstance(each, FailedPart)}
    hopeless = {number for number, count in deaths.items() if count >= tries}
    assert failed.keys() == hopeless
    assert done == Counter(set(range(8)) - hopeless)
    assert all(pool.sent[n] == min(deaths.get(n, 0) + 1, tries) for n in range(8))
    for number, each in failed.items():
        assert (each.start, each.stop, each.tries) == (2 * number, 2 * number + 2, tries)
    assert pool.most_at_once <= workers


def test_a_part_that_raises_is_tried_once_and_its_worker_kept() -> None:
    pool = ScriptedPool({}, frozenset({1}))
    reports = run(pool, 3, Limits(1, 3))
    (failed,) = [each for each in reports if isinstance(each, FailedPart)]
    assert (failed.number, failed.tries) == (1, 1)
    assert "ValueError: bad part" in failed.reason
    assert pool._count == 1


def test_when_all_fail_it_stops() -> None:
    pool = ScriptedPool({}, frozenset(range(50)))
    with pytest.raises(GivenUpError, match=r"10 parts failed one after the other.*bad part"):
        run(pool, 50, Limits(1, 3))
    assert sum(pool.sent.values()) == loop.IN_A_ROW


def test_other_weights_are_refused_before_any_part() -> None:
    other = WorkerFacts(Run({"weights_sha256": "b" * 64}, {"source": "manifest"}), 7, "cpu")
    pool = ScriptedPool({}, starts=deque([other]))
    with pytest.raises(ConfigError, match=r"process 7.*\(weights_sha256\).*no part was given"):
        run(pool, 3, Limits(1, 3))
    assert not pool.sent


def test_workers_that_never_start_are_explained() -> None:
    pool = ScriptedPool({}, starts=deque([None]))
    with pytest.raises(ConfigError, match=r"within 0.01 seconds: each asks for a GPU, and there"):
        run(pool, 3, Limits(1, 3, start_timeout=0.01))
    pool = ScriptedPool({}, starts=deque(["no module mfclip"] * 3))
    with pytest.raises(ConfigError, match="could not start: no module mfclip"):
        run(pool, 3, Limits(1, 3))
    pool = ScriptedPool({}, starts=deque(["a node went away"] * 2))
    assert len(run(pool, 3, Limits(1, 3))) == 3
