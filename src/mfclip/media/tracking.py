"""Follow faces through the frames of a video, so that a person keeps one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rectangle: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, pixels."""

Look: TypeAlias = NDArray[np.float32]
"""How a face looks, from `look_of`."""

REACH = 0.75
"""How far a face may move between two frames, in sides of its box."""

GROWTH = 2.0
"""How many times larger or smaller a face may become between two frames."""

ALIKE = 0.6
"""Likeness of two looks from which they may be of one person (``benchmarks/tracking.py``)."""

COARSE = 4
"""Side of the grid of colours that makes a look."""

LEAST_CONTRAST = 0.05
"""Crops with less, as a part of their brightness, look like any other."""


@dataclass
class FaceTracker:
    """Give each face of the next frame the number of the nearest face seen last.

    Overlap alone would lose faces here, since the frames lie far apart in time: a face belongs to
    a track if its middle moved at most `REACH` sides and its side changed at most `GROWTH` times.
    The closest pairs are matched first; a face that fits no track begins a new one. Where looks are
    given, two people framed alike after a cut are mostly kept apart; nobody is recognised.

    Attributes:
        patience: frames in which a face may be missing before its track ends; None for ever. It
            also bounds memory and time.

    Example:
        >>> left, right = ((x, 0.0, x + 10, 10.0) for x in (0.0, 50.0))
        >>> tracker = FaceTracker()
        >>> tracker.follow([left, right]), tracker.follow([right]), tracker.follow([right, left])
        ([0, 1], [1], [1, 0])
    """

    patience: int | None = None
    _last: dict[int, tuple[Rectangle, Look | None, int]] = field(default_factory=dict)
    _begun: int = 0
    _now: int = 0

    def follow(
        self, boxes: Sequence[Rectangle], looks: Sequence[Look | None] | None = None
    ) -> list[int]:
        """Return the number of each face's track, in the order of `boxes`.

        Args:
            boxes: of the faces in the next frame.
            looks: of the same faces; None for what may be anybody.
        """
        self._forget()
        looks = looks or [None] * len(boxes)
        pairs = sorted(
            (apart, track, place)
            for track, (seen, look, _) in self._last.items()
            for place, box in enumerate(boxes)
            if (apart := _distance(seen, box)) <= REACH and _is_alike(look, looks[place])
        )
        numbers: dict[int, int] = {}
        for _, track, place in pairs:
            if place not in numbers and track not in numbers.values():
                numbers[place] = track
        for place, box in enumerate(boxes):
            if place not in numbers:
                numbers[place] = self._begun
                self._begun += 1
            self._last[numbers[place]] = (box, looks[place], self._now)
        self._now += 1
        return [numbers[place] for place in range(len(boxes))]

    def _forget(self) -> None:
        if self.patience is None:
            return
        oldest = self._now - self.patience - 1
        self._last = {track: seen for track, seen in self._last.items() if seen[-1] >= oldest}


def look_of(crop: NDArray[np.uint8]) -> Look | None:
    """Describe how a face looks by a coarse grid of its colours, whatever the light.

    Args:
        crop: RGB, height x width x 3, cut and turned the same way for all faces.

    Returns:
        A vector of length 1; None for a crop without contrast.
    """
    grid = Image.fromarray(crop).resize((COARSE, COARSE), Image.Resampling.BOX)
    colours = np.asarray(grid, np.float32).ravel()
    colours = colours / max(1.0, float(colours.mean())) - 1
    length = float(np.linalg.norm(colours))
    return colours / length if length >= LEAST_CONTRAST * math.sqrt(colours.size) else None


def _is_alike(one: Look | None, other: Look | None) -> bool:
    return one is None or other is None or float(one @ other) >= ALIKE


def _side(box: Rectangle) -> float:
    left, top, right, bottom = box
    return max(right - left, bottom - top)


def _distance(one: Rectangle, other: Rectangle) -> float:
    """Between the middles, in sides of the larger face; infinite if the sizes do not fit."""
    small, large = sorted((_side(one), _side(other)))
    if large > GROWTH * small:
        return math.inf
    middles = [
        ((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in (one, other)
    ]
    return math.dist(*middles) / large
