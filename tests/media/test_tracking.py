"""Boxes placed by hand: who keeps which number."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from mfclip.media.tracking import FaceTracker, Rectangle, look_of


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


FRAMES = {"collins": (150, 40, 300, 190), "hopper": (160, 120, 370, 330)}


def portrait(name: str) -> Image.Image:
    path = Path(str(files("mfclip").joinpath(f"assets/demo/photo/{name}.jpg")))
    return Image.open(path).convert("RGB").crop(FRAMES[name])


def test_two_people_in_one_place_keep_apart_when_the_film_cuts_between_them() -> None:
    looks = [look_of(np.asarray(portrait(name))) for name in ("collins", "hopper")]
    tracker = FaceTracker()
    numbers = [tracker.follow([face(0.0)], [looks[cut]])[0] for cut in (0, 0, 1, 0, 1, 1)]
    assert numbers == [0, 0, 1, 0, 1, 1]
    blind = FaceTracker()
    assert [blind.follow([face(0.0)])[0] for _ in range(6)] == [0] * 6


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_light_turn_and_shift_leave_the_look(name: str) -> None:
    plain = portrait(name)
    look = look_of(np.asarray(plain))
    assert look is not None
    assert float(look @ look) == pytest.approx(1)
    for changed in (
        ImageEnhance.Brightness(plain).enhance(0.6),
        plain.rotate(6),
        plain.transform(plain.size, Image.Transform.AFFINE, (1, 0, 6, 0, 1, -6)),
    ):
        other = look_of(np.asarray(changed))
        assert other is not None
        assert float(look @ other) > 0.8


def test_a_crop_without_contrast_may_be_anybody() -> None:
    assert look_of(np.full((40, 40, 3), 90, np.uint8)) is None
    tracker = FaceTracker()
    tracker.follow([face(0.0)], [look_of(np.asarray(portrait("hopper")))])
    assert tracker.follow([face(0.0)], [None]) == [0]
