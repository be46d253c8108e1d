"""Quality measures against damage of known strength, and against libjpeg's own numbers."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import laplace

from mfclip.media.images import open_image, read_image
from mfclip.media.transforms import prepare_face
from mfclip.predict.quality import (
    DARK,
    GREY,
    LEAST_SHARPNESS,
    MOST_BLOCKINESS,
    MOST_YAW,
    blockiness,
    check_compression,
    check_face,
    check_pose,
    sharpness,
)

DEMO = sorted(Path(str(files("mfclip").joinpath("assets/demo"))).rglob("*.jpg"))


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    assert DEMO
    return [prepare_face(read_image(path), resize=256, image_size=224) for path in DEMO]


def blurred(face: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(sigma)))


def saved(picture: np.ndarray, quality: int, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def reread(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_sharpness_is_the_ratio_of_variances(faces: list[np.ndarray]) -> None:
    grey = (faces[0] @ GREY).astype(np.float64)
    expected = np.log10(laplace(grey)[1:-1, 1:-1].var() / grey.var())
    assert sharpness(faces[0]) == pytest.approx(expected, abs=1e-4)


def test_sharpness_falls_with_blur_and_hardly_with_the_light(faces: list[np.ndarray]) -> None:
    for face in faces:
        values = [sharpness(blurred(face, sigma)) for sigma in (0, 0.5, 1, 2, 4)]
        assert values == sorted(values, reverse=True)
        assert sharpness((face * 0.5).astype(np.uint8)) == pytest.approx(values[0], abs=0.1)


def test_a_sharp_face_gets_no_warning_and_a_blurred_one_does(faces: list[np.ndarray]) -> None:
    for face in faces:
        assert check_face(face) == ()
        (warning,) = check_face(blurred(face, 2.0))
        assert warning.startswith("blurred face")


def test_an_even_face_is_blurred_and_maybe_dark() -> None:
    assert sharpness(np.full((224, 224, 3), 120, np.uint8)) == float("-inf") < LEAST_SHARPNESS
    words = [one.partition(":")[0] for one in check_face(np.full((224, 224, 3), 9, np.uint8))]
    assert words == ["blurred face", "very dark face"]


def test_light_is_judged_by_its_mean(faces: list[np.ndarray]) -> None:
    face = faces[0]
    mean = float((face @ GREY).mean())
    darker = (face * (0.8 * DARK / mean)).astype(np.uint8)
    assert any(one.startswith("very dark face") for one in check_face(darker))
    brighter = (255 - (255 - face.astype(int)) * 0.1).astype(np.uint8)
    assert any(one.startswith("very bright face") for one in check_face(brighter))


def test_blocks_are_seen_wherever_they_begin_and_not_where_there_are_none(
    faces: list[np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    assert blockiness(rng.integers(0, 256, (240, 320, 3), np.uint8)) == pytest.approx(1, abs=0.15)
    squares = np.kron(rng.integers(0, 256, (16, 16)), np.ones((8, 8)))[:, :, None]
    squares = np.repeat(squares, 3, axis=2) + rng.normal(0, 1, (128, 128, 3))
    squares = squares.clip(0, 255).astype(np.uint8)
    assert blockiness(squares) > 20
    assert blockiness(squares[3:, 5:]) > 20
    assert blockiness(squares[:40]) == 1
    for face in faces:
        coarse = reread(saved(face, 15))
        assert blockiness(face) < MOST_BLOCKINESS < blockiness(coarse[2:, 3:])


def test_stripes_in_one_direction_are_no_blocks() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::8] = 200
    assert blockiness(stripes + np.arange(128, dtype=np.uint8)[:, None, None]) < MOST_BLOCKINESS


def test_compression_is_named_by_quality_or_by_blocks(
    tmp_path: Path, faces: list[np.ndarray]
) -> None:
    face = faces[0]
    good, bad = saved(face, 90), saved(face, 20)
    assert check_compression(open_image(good)) == ()
    (warning,) = check_compression(open_image(bad))
    assert warning.startswith("strongly compressed (JPEG quality about 20)")
    Image.fromarray(reread(saved(face, 15))).save(tmp_path / "shot.png")
    (warning,) = check_compression(open_image(tmp_path / "shot.png"))
    assert warning.startswith("blocky image")
    Image.fromarray(face).save(tmp_path / "clean.png")
    assert check_compression(open_image(tmp_path / "clean.png")) == ()


@pytest.mark.parametrize(
    ("yaw", "warned"), [(0.0, False), (-MOST_YAW, False), (60.0, True), (-60.0, True)]
)
def test_a_face_turned_far_is_named(yaw: float, warned: bool) -> None:
    assert bool(check_pose(yaw)) == warned
    if warned:
        assert "60 degrees" in check_pose(yaw)[0]
