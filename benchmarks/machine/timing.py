"""Time taken: warm-up, several ways in turn, medians with their spread.

Ways that are compared take turns in every round, so that a machine whose speed drifts drifts for
all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from mfclip.runtime.parallel import Progress, silent

Way: TypeAlias = Callable[[], Any]
"""Something to time."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of every round of one way.

    Example:
        >>> Timing((4.0, 1.0, 2.0)).median
        2.0
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the middle round."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Seconds below which a quarter and three quarters of the rounds lie."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def times_faster(self, slow: Timing) -> float:
        """Return the median over the rounds of how many times longer `slow` took in that round."""
        return statistics.median(a / b for a, b in zip(slow.seconds, self.seconds, strict=True))

    def to_json(self) -> dict[str, float]:
        """Return median, quartiles, extremes and the number of rounds; seconds."""
        low, high = self.quartiles
        return {
            "median": self.median,
            "lower_quartile": low,
            "upper_quartile": high,
            "min": min(self.seconds),
            "max": max(self.seconds),
            "rounds": len(self.seconds),
        }


def time_ways(
    ways: Mapping[str, Way],
    *,
    rounds: int,
    warm_up: int = 1,
    device: torch.device | None = None,
    progress: Progress = silent,
    settle: Callable[[str], Any] | None = None,
) -> dict[str, Timing]:
    """Time each way once a round, in turn.

    Args:
        ways: what is timed, by name.
        rounds: how often each is timed, at least 1.
        warm_up: rounds before that are not counted.
        device: what it computes on; a GPU is waited for before and after each way.
        progress: told after every round.
        settle: called with a way's name just before it is timed, to bring the process into the
            state that way runs in.

    Returns:
        The times by name, in the order of `ways`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for done in range(warm_up + rounds):
        for name, way in ways.items():
            if settle:
                settle(name)
            synchronise(device)
            began = time.perf_counter()
            way()
            synchronise(device)
            if done >= warm_up:
                seconds[name].append(time.perf_counter() - began)
        progress(", ".join(ways), done + 1, warm_up + rounds)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def synchronise(device: torch.device | None) -> None:
    """Wait until the device has done all it was given; nothing to wait for on a CPU."""
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def pinned_threads(count: int | None) -> Iterator[int]:
    """Compute with a fixed number of torch threads meanwhile, and give that number.

    Args:
        count: None leaves what is set.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
