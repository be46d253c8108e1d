from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.errors import InputError
from mfclip.media.images import read_image
from mfclip.model.mfclip import MFCLIP
from mfclip.predict.faces import NO_FACE, DetectedFaces, WholePicture
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
        ((100, 151), ["long image (151 x 100 pixels): only its middle square was judged"]),
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


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("align", [True, False])
def test_a_lying_face_is_cut_out_upright(photograph: np.ndarray, turns: int, align: bool) -> None:
    """Without EXIF: a photograph turned by a quarter or half turn gives the same crop."""
    finder = DetectedFaces(align=align)
    (upright,) = finder.find(photograph)
    (found,) = finder.find(np.ascontiguousarray(np.rot90(photograph, turns)))
    difference = np.abs(found.pixels.astype(int) - upright.pixels)
    assert np.median(difference) < 12  # found anew, so a little beside the first
    lying = np.abs(np.rot90(found.pixels, 1).astype(int) - upright.pixels)
    assert np.median(lying) > 2 * np.median(difference)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_whole_image_is_turned_where_its_face_lies(photograph: np.ndarray, turns: int) -> None:
    turned = np.ascontiguousarray(np.rot90(photograph, turns))
    (crop,) = WholePicture(check=True).find(turned)
    np.testing.assert_array_equal(crop.pixels, photograph)
    assert ("turned upright" in " ".join(crop.warnings)) == bool(turns)
    assert not crop.void
    (unchecked,) = WholePicture().find(turned)
    assert unchecked.pixels is turned


def test_a_whole_image_without_a_face_says_that_its_score_means_nothing() -> None:
    cup = np.full((100, 100, 3), 90, np.uint8)
    (crop,) = WholePicture(check=True).find(cup)
    assert crop.void == (NO_FACE,)
    (unchecked,) = WholePicture().find(cup)
    assert not unchecked.void


def test_a_tiny_face_is_poor(finder: DetectedFaces, photograph: np.ndarray) -> None:
    (crop,) = finder.find(photograph)
    assert crop.box is not None
    assert not crop.poor
    shares = {0.9: 0, 60 / crop.box.height: 1, 30 / crop.box.height: 2}
    for share, badness in shares.items():
        height, width = (round(share * side) for side in photograph.shape[:2])
        small = np.asarray(Image.fromarray(photograph).resize((width, height)))
        (found,) = finder.find(small)
        said = [w for w in (*found.warnings, *found.poor) if w.startswith("small face (")]
        assert len(said) == min(badness, 1)
        assert len(found.poor) == (badness == 2)
