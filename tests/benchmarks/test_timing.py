"""Turns, medians and quartiles, against numpy and a clock that is set by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from machine.timing import Timing, pinned_threads, time_ways


def test_median_and_quartiles_are_those_of_numpy() -> None:
    seconds = (0.4, 3.0, 1.0, 0.2, 0.9, 7.0)
    timing = Timing(seconds)
    assert timing.median == pytest.approx(np.median(seconds))
    assert timing.quartiles == pytest.approx(tuple(np.quantile(seconds, [0.25, 0.75])))
    assert Timing((2.0,)).quartiles == (2.0, 2.0)


def test_times_faster_compares_round_by_round() -> None:
    """A machine that slows down by ten for one round slows both ways alike."""
    slow, fast = Timing((4.0, 40.0, 4.0)), Timing((1.0, 10.0, 2.0))
    assert fast.times_faster(slow) == 4.0


def test_ways_take_turns_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls, told = [0.0], [], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def way(name: str, cost: float) -> None:
        calls.append(name)
        clock[0] += cost * len(calls)

    timings = time_ways(
        {"a": lambda: way("a", 1.0), "b": lambda: way("b", 10.0)},
        rounds=2,
        progress=lambda *said: told.append(said),
    )
    assert calls == ["a", "b"] * 3
    assert timings == {"a": Timing((3.0, 5.0)), "b": Timing((40.0, 60.0))}
    assert told == [("a, b", 1, 3), ("a, b", 2, 3), ("a, b", 3, 3)]


def test_threads_are_pinned_and_given_back() -> None:
    before = torch.get_num_threads()
    with pinned_threads(before + 1) as count:
        assert torch.get_num_threads() == count == before + 1
    with pinned_threads(None) as count:
        assert count == before
    assert torch.get_num_threads() == before


def test_each_way_is_settled_just_before_it_is_timed() -> None:
    calls: list[str] = []
    ways = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    time_ways(ways, rounds=1, settle=lambda name: calls.append(f"settle {name}"))
    assert calls == 2 * ["settle a", "a", "settle b", "b"]
