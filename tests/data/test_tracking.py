"""Boxes placed by hand: who keeps which number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfclip.data.tracking import FaceTracker, Rectangle


def face(x: float, side: float = 20.0) -> Rectangle:
    return (x, 0.0, x + side, side)


def test_numbers_survive_a_swap_of_order() -> None:
    tracker = FaceTracker()
    assert tracker.follow([face(0.0), face(100.0)]) == [0, 1]
    assert tracker.follow([]) == []
    assert tracker.follow([face(104.0), face(5.0), face(300.0)]) == [1, 0, 2]
    assert tracker.follow([face(5.0, side=60.0)]) == [3]


def test_a_face_missing_for_longer_than_the_patience_begins_a_new_track() -> None:
    for missing, expected in ((2, [0]), (3, [1])):
        tracker = FaceTracker(patience=2)
        tracker.follow([face(0.0)])
        for _ in range(missing):
            tracker.follow([])
        assert tracker.follow([face(0.0)]) == expected


@given(st.permutations(range(4)), st.lists(st.floats(-14, 14), min_size=4, max_size=4))
def test_faces_far_apart_keep_their_numbers_in_any_order(
    order: list[int], moves: list[float]
) -> None:
    tracker = FaceTracker()
    tracker.follow([face(100.0 * place) for place in range(4)])
    moved = [face(100.0 * place + moves[place]) for place in order]
    assert tracker.follow(moved) == list(order)
