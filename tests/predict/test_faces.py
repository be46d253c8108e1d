from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mfclip.errors import InputError
from mfclip.media.images import read_image
from mfclip.model.mfclip import MFCLIP
from mfclip.predict.faces import DetectedFaces, WholePicture, small_face
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor


@pytest.fixture(scope="module")
def finder() -> DetectedFaces:
    return DetectedFaces()


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """A portrait of Eileen Collins (NASA): one face, its eyes near (208, 107) and (240, 108)."""
    return read_image(Path(str(files("mfclip").joinpath("assets/demo/photo/collins.jpg"))))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 150), []),
        ((100, 151), ["long picture (151 x 100 pixels): only its middle square was judged"]),
        ((79, 79), ["small face (79 pixels): it was enlarged, and its fine traces are missing"]),
        ((80, 80), []),
    ],
)
def test_whole_picture_is_the_face_with_fitting_warnings(
    shape: tuple[int, int], expected: list[str]
) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    (crop,) = WholePicture().find(picture)
    assert crop.pixels is picture
    assert crop.box is None
    assert list(crop.warnings) == expected


def test_the_face_of_a_photograph_is_found_where_it_is(
    finder: DetectedFaces, photograph: np.ndarray
) -> None:
    (crop,) = finder.find(photograph)
    assert crop.box is not None
    middle = ((crop.box.left + crop.box.right) / 2, (crop.box.top + crop.box.bottom) / 2)
    assert middle == pytest.approx((225, 115), abs=20)
    height, width = photograph.shape[:2]
    assert 0 <= crop.box.left < crop.box.right <= width
    assert 0 <= crop.box.top < crop.box.bottom <= height


def test_two_faces_side_by_side_give_two_predictions_like_one_face(
    finder: DetectedFaces, photograph: np.ndarray, model: MFCLIP
) -> None:
    predictor = Predictor(model, device="cpu", finder=finder)
    (single,) = predictor.predict([photograph])
    both = predictor.predict([np.hstack([photograph, photograph])])
    assert isinstance(single, Prediction)
    assert single.face is not None
    lefts = []
    for result in both:
        assert isinstance(result, Prediction)
        assert result.face is not None
        assert result.score == pytest.approx(single.score, abs=0.05)
        lefts.append(result.face.left)
    shift = photograph.shape[1]
    assert sorted(lefts) == pytest.approx([single.face.left, single.face.left + shift], abs=8)


def test_no_face_is_an_error_that_says_what_to_do(finder: DetectedFaces) -> None:
    with pytest.raises(InputError, match="no face found; use --whole"):
        finder.find(np.full((100, 100, 3), 90, np.uint8))


def test_small_faces_are_those_below_80_pixels() -> None:
    assert small_face(80.0) == ()
    assert "79 pixels" in small_face(79.4)[0]
