"""Faces: found where another detector finds them; crops equal those worked another way."""

import json
import math
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from skimage.feature import Cascade
from skimage.transform import SimilarityTransform, warp

from mfclip.data.manifest import read_manifest
from mfclip.errors import InputError, MissingExtraError
from mfclip.media.faces import (
    NOSE_DEPTH,
    TEMPLATE,
    Face,
    FaceDetector,
    alignment,
    check_image,
    crop_face,
)
from mfclip.media.images import read_image
from mfclip.media.mtcnn_openvino import load_openvino_cascade


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=["torch", "openvino"])
def detector(request):
    return FaceDetector(runtime=request.param)


@pytest.fixture(scope="module")
def astronaut():
    return np.asarray(data.astronaut())


def face_at(transform=lambda point: point):
    return Face((0.0, 0.0, 112.0, 112.0), tuple(transform(point) for point in TEMPLATE), 1.0)


def pose(*points):
    return Face((0.0, 0.0, 9.0, 9.0), tuple((float(x), float(y)) for x, y in points), 1.0)


def test_agrees_with_the_cascade_of_skimage(detector, astronaut):
    rules = Path(skimage.__file__).parent / "data" / "lbpcascade_frontalface_opencv.xml"
    found = Cascade(str(rules)).detect_multi_scale(
        astronaut, scale_factor=1.2, step_ratio=1, min_size=(60, 60), max_size=(150, 150)
    )
    other = max(found, key=lambda box: box["width"])
    (face,) = detector.detect(astronaut)
    left, top, right, bottom = face.box
    assert (left + right) / 2 == pytest.approx(other["c"] + other["width"] / 2, abs=20)
    assert (top + bottom) / 2 == pytest.approx(other["r"] + other["height"] / 2, abs=20)
    assert face.confidence > 0.99


def test_no_face_gives_an_empty_list(detector):
    brick = np.stack([data.brick()] * 3, -1)[:256, :256]
    assert detector.detect(brick) == []


def test_largest_first(detector, astronaut):
    small = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    both = np.concatenate([np.pad(small, ((0, 256), (0, 0), (0, 0))), astronaut], 1)
    sides = [face.side for face in detector.detect(both)]
    assert len(sides) == 2
    assert sides[0] == pytest.approx(2 * sides[1], rel=0.15)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_lying_pictures_are_turned_back(detector, astronaut, turns):
    upright = detector.detect(astronaut)[0]
    turned = detector.detect(np.ascontiguousarray(np.rot90(astronaut, turns)))[0]
    expected = (turns * -90 + upright.roll + 180) % 360 - 180
    assert turned.roll == pytest.approx(expected, abs=1e-3)
    crops = [
        crop_face(image, face).astype(float)
        for image, face in ((astronaut, upright), (np.rot90(astronaut, turns), turned))
    ]
    np.testing.assert_allclose(crops[0], crops[1], atol=2)


def test_without_retry_a_lying_face_is_not_found(astronaut):
    assert FaceDetector(retry=False).detect(np.rot90(astronaut)) == []


def test_small_faces_need_the_second_look(astronaut):
    small = Image.fromarray(astronaut).resize((140, 140), Image.Resampling.LANCZOS)
    scene = Image.new("RGB", (1280, 720), "grey")
    scene.paste(small, (600, 300))
    assert FaceDetector(retry=False).detect(np.asarray(scene)) == []
    (face,) = FaceDetector().detect(np.asarray(scene))
    upright = FaceDetector().detect(astronaut)[0]
    shrunk = np.array(upright.landmarks) * 140 / 512 + [600, 300]
    np.testing.assert_allclose(np.array(face.landmarks), shrunk, atol=2)


def test_roll_follows_the_picture(detector, astronaut):
    upright = detector.detect(astronaut)[0]
    turned = Image.fromarray(astronaut).rotate(-20, Image.Resampling.BICUBIC)
    assert detector.detect(np.asarray(turned))[0].roll - upright.roll == pytest.approx(20, abs=3)


def test_pose_by_hand():
    face = pose((0, 0), (3, 3), (1.5, 1.5), (0, 5), (5, 5))
    assert face.roll == pytest.approx(45)
    assert face.yaw == pytest.approx(0)
    turned = pose((0, 0), (10, 0), (5 + 10 * NOSE_DEPTH, 4), (2, 9), (8, 9))
    assert turned.yaw == pytest.approx(45)


def test_detector_survives_pickling(detector, astronaut):
    copy = pickle.loads(pickle.dumps(detector))
    assert copy.detect(astronaut) == detector.detect(astronaut)


def test_both_runtimes_find_the_same_faces_in_a_large_picture(astronaut):
    """Boxes and landmarks equal to 0.01 pixel, confidence to 1e-4, whatever computes."""
    scene = Image.new("RGB", (1280, 720), "grey")
    for place, side in enumerate((400, 350, 300)):
        scene.paste(Image.fromarray(astronaut).resize((side, side)), (20 + 420 * place, 100))
    one, two = (
        FaceDetector(runtime=runtime).detect(np.asarray(scene)) for runtime in ("torch", "openvino")
    )
    assert len(one) == len(two) == 3
    for face, other in zip(one, two, strict=True):
        np.testing.assert_allclose(face.box, other.box, atol=0.01)
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.01)
        assert face.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_threads_share_a_detector(detector, astronaut):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector.detect, [astronaut, astronaut[:, ::-1].copy()] * 6))
    assert found[::2] == [found[0]] * 6
    assert found[1::2] == [found[1]] * 6


def test_openvino_that_is_absent_is_told_with_the_extra(monkeypatch):
    load_openvino_cascade.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"mfclip\[export\]"):
        FaceDetector(runtime="openvino")


def test_face_on_the_template_is_cut_out_unchanged(astronaut):
    crop = crop_face(astronaut, face_at(), size=112, margin=1.0)
    np.testing.assert_array_equal(crop, astronaut[:112, :112])


def test_unaligned_crop_is_the_square_about_the_box(astronaut):
    face = Face((110.0, 60.0, 210.0, 130.0), face_at().landmarks, 1.0)
    crop = crop_face(astronaut, face, size=120, margin=1.2, align=False)
    np.testing.assert_array_equal(crop, astronaut[35:155, 100:220])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduction_by_a_whole_number_is_the_mean_of_each_block(astronaut, factor):
    face = face_at(lambda point: (factor * point[0], factor * point[1]))
    crop = crop_face(astronaut, face, size=112, margin=1.0)
    part = astronaut[: 112 * factor, : 112 * factor]
    blocks = part.reshape(112, factor, 112, factor, 3).mean((1, 3))
    np.testing.assert_allclose(crop, blocks, atol=0.51)


def test_fine_stripes_do_not_alias():
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::2] = 255
    face = face_at(lambda point: (3.5 * point[0], 3.5 * point[1]))
    crop = crop_face(stripes, face, size=112, margin=1.0)
    assert np.ptp(crop[5:100, 5:100].astype(int)) < 60


def test_border_is_repeated(astronaut):
    face = face_at(lambda point: (point[0] - 40, point[1] - 30))
    far = face_at(lambda point: (point[0] + 60, point[1] + 70))
    padded = np.pad(astronaut, ((100, 0), (100, 0), (0, 0)), mode="edge")
    near = crop_face(astronaut, face, size=96, margin=1.1)
    np.testing.assert_allclose(near, crop_face(padded, far, size=96, margin=1.1), atol=1)


def test_enlarging_agrees_with_skimage(astronaut):
    """Independent bicubic: another kernel of the family, so close and not equal."""
    face = face_at(lambda point: (point[0] * 0.8 + 180, point[1] * 0.8 + 70))
    crop = crop_face(astronaut, face, size=128, margin=1.0)
    matrix = np.vstack([alignment(face, size=128, margin=1.0), [0, 0, 1]])
    # skimage counts from the middle of the first pixel
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    whole = np.linalg.inv(half) @ matrix @ half
    other = warp(astronaut, whole, output_shape=(128, 128), order=3, preserve_range=True)
    assert np.abs(crop - other).mean() < 1.5


def test_turned_and_reduced_crop_equals_one_sampled_place_by_place(astronaut):
    turn = SimilarityTransform(scale=2.6, rotation=0.4, translation=(150, 30))
    face = face_at(lambda point: tuple(turn(point)[0].tolist()))
    matrix = alignment(face, size=64, margin=1.3)
    fineness = math.ceil(math.hypot(matrix[0, 0], matrix[1, 0]))
    steps = (np.arange(64 * fineness) + 0.5) / fineness
    places = [[matrix @ (x, y, 1) for x in steps] for y in steps]
    grid = torch.tensor(np.array(places) / 256 - 1).float()  # the astronaut has 512 x 512 pixels
    pixels = torch.from_numpy(astronaut).float().permute(2, 0, 1)[None]
    fine = torch.nn.functional.grid_sample(
        pixels, grid[None], mode="bicubic", padding_mode="border", align_corners=False
    )
    mean = fine[0].unflatten(1, (64, -1)).unflatten(3, (64, -1)).mean((2, 4)).clamp(0, 255)
    crop = crop_face(astronaut, face, size=64)
    np.testing.assert_allclose(crop, mean.permute(1, 2, 0), atol=0.6)


@settings(max_examples=25, deadline=None)
@given(st.floats(-math.pi, math.pi), st.floats(0.2, 8), st.floats(-50, 500), st.floats(0.8, 2.0))
def test_alignment_agrees_with_skimage(angle, scale, shift, margin):
    turn = SimilarityTransform(scale=scale, rotation=angle, translation=(shift, 2 * shift))
    bumps = np.random.default_rng(0).normal(0, 2, (5, 2))
    points = turn(np.array(TEMPLATE) + bumps)
    face = Face((0.0, 0.0, 1.0, 1.0), tuple(map(tuple, points.tolist())), 1.0)
    template = ((np.array(TEMPLATE) / 112 - 0.5) / margin + 0.5) * 200
    expected = SimilarityTransform.from_estimate(template, points).params[:2]
    np.testing.assert_allclose(alignment(face, size=200, margin=margin), expected, atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(detector, image):
    with pytest.raises(InputError, match="uint8 of height x width x 3"):
        detector.detect(image)
    with pytest.raises(InputError, match="uint8 of height x width x 3"):
        crop_face(image, face_at())


def test_float_pictures_are_refused():
    with pytest.raises(InputError, match=r"got float32 of 8 x 8 x 3"):
        check_image(np.zeros((8, 8, 3), np.float32))


def test_tiny_pictures_hold_no_face(detector):
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []
    assert detector.detect(np.zeros((3, 900, 3), np.uint8)) == []


def test_landmarks_in_one_point_are_refused(astronaut):
    with pytest.raises(InputError, match="one point"):
        crop_face(astronaut, face_at(lambda _: (5.0, 5.0)))


def test_demo_faces_stay_where_they_were(detector):
    stored = json.loads((Path(__file__).parents[1] / "golden" / "demo_faces.json").read_text())
    for name, expected in stored["faces"].items():
        faces = detector.detect(read_image(Path(str(files("mfclip"))) / "assets" / "demo" / name))
        assert len(faces) == len(expected), name
        for face, known in zip(faces, expected, strict=True):
            np.testing.assert_allclose(face.box, known["box"], atol=1)
            np.testing.assert_allclose(face.landmarks, known["landmarks"], atol=1)
            assert face.confidence == pytest.approx(known["confidence"], abs=0.005)


def test_development_faces_are_found(detector, faces_manifest):
    samples = read_manifest(faces_manifest).samples[::600]
    found = [detector.detect(np.asarray(Image.open(s.path).convert("RGB"))) for s in samples]
    assert sum(map(bool, found)) >= len(samples) - 1
