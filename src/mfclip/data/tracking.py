"""Follow faces through the frames of a video, so that a person keeps one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mfclip.data.faces import Face

REACH = 0.75
"""How far a face may move between two frames, in sides of its box."""

GROWTH = 2.0
"""How many times larger or smaller a face may become between two frames."""


@dataclass
class FaceTracker:
    """Give each face of the next frame the number of the nearest face seen last.

    Overlap alone would lose faces here, since the frames lie far apart in time: a face belongs to
    a track if its middle moved at most `REACH` sides and its side changed at most `GROWTH` times.
    The closest pairs are matched first; a face that fits no track begins a new one.

    Example:
        >>> points = ((3.0, 4.0), (7.0, 4.0), (5.0, 6.0), (3.0, 8.0), (7.0, 8.0))
        >>> left, right = (Face((x, 0.0, x + 10, 10.0), points, 1.0) for x in (0.0, 50.0))
        >>> tracker = FaceTracker()
        >>> tracker.follow([left, right]), tracker.follow([right]), tracker.follow([right, left])
        ([0, 1], [1], [1, 0])
    """

    _last: list[Face] = field(default_factory=list)

    def follow(self, faces: Sequence[Face]) -> list[int]:
        """Return the number of each face's track, in the order of `faces`."""
        pairs = sorted(
            (apart, track, place)
            for track, seen in enumerate(self._last)
            for place, face in enumerate(faces)
            if (apart := _distance(seen, face)) <= REACH
        )
        numbers: dict[int, int] = {}
        for _, track, place in pairs:
            if place not in numbers and track not in numbers.values():
                numbers[place] = track
        for place, face in enumerate(faces):
            if place not in numbers:
                numbers[place] = len(self._last)
                self._last.append(face)
            self._last[numbers[place]] = face
        return [numbers[place] for place in range(len(faces))]


def _distance(one: Face, other: Face) -> float:
    """Between the middles, in sides of the larger face; infinite if the sizes do not fit."""
    small, large = sorted((one.side, other.side))
    if large > GROWTH * small:
        return math.inf
    middles = [((f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2) for f in (one, other)]
    return math.dist(*middles) / large
