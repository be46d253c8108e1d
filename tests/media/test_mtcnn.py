"""MTCNN: the sliding window, suppression and landmarks against values worked another way."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from mfclip.media import mtcnn
from mfclip.media.mtcnn import OutputNet, ProposalNet, find_faces, load_cascade, suppress
from mfclip.media.mtcnn_openvino import load_openvino_cascade


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cascade():
    return load_cascade()


def test_proposal_net_judges_each_window_as_if_it_were_alone(cascade):
    images = torch.rand(1, 3, 40, 52)
    boxes, faces = cascade.proposal(images)
    for row, col in ((0, 0), (3, 7), (14, 20)):
        window = images[:, :, 2 * row : 2 * row + 12, 2 * col : 2 * col + 12]
        box, face = cascade.proposal(window)
        torch.testing.assert_close(boxes[..., row, col], box[..., 0, 0])
        torch.testing.assert_close(faces[:, row, col], face[:, 0, 0])
    assert faces.shape == (1, 15, 21)


def test_landmarks_lie_as_in_a_face(cascade):
    """Left of right, eyes above nose above mouth: catches swapped rows and columns."""
    boxes, landmarks, scores = find_faces(cascade, np.asarray(data.astronaut()), min_face=40.0)
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (boxes[0, :2] < landmarks[0].min(0)).all()
    assert (boxes[0, 2:] > landmarks[0].max(0)).all()
    assert scores[0] > 0.99


def test_mirrored_picture_gives_mirrored_landmarks(cascade):
    image = np.asarray(data.astronaut())
    _, landmarks, _ = find_faces(cascade, image, min_face=40.0)
    _, mirrored, _ = find_faces(cascade, np.ascontiguousarray(image[:, ::-1]), min_face=40.0)
    expected = landmarks[0][[1, 0, 2, 4, 3]]
    expected[:, 0] = image.shape[1] - expected[:, 0]
    np.testing.assert_allclose(mirrored[0], expected, atol=4)


def test_networks_have_the_sizes_of_the_paper():
    """Multiply-free check: number of weights counted by hand from Fig. 2 of the paper."""
    proposal = (27 * 10 + 20) + (90 * 16 + 32) + (144 * 32 + 64) + (32 * 6 + 6)
    output = (27 * 32 + 64) + (288 * 64 + 128) + (576 * 64 + 128) + (256 * 128 + 256)
    output += (1152 * 256 + 512) + (256 * 16 + 16)
    assert sum(p.numel() for p in ProposalNet().parameters()) == proposal
    assert sum(p.numel() for p in OutputNet().parameters()) == output


def test_suppress_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [2, 2, 5, 5]], np.float32)
    scores = np.array([0.8, 0.9, 0.5, 0.7], np.float32)
    # unions: first two share 80 of 100; the last lies inside both and covers a tenth
    assert suppress(boxes, scores, 0.7).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, 0.85).tolist() == [1, 0, 3, 2]
    assert suppress(boxes, scores, 0.7, of_smaller=True).tolist() == [1, 2]


def test_suppress_is_the_same_in_blocks(monkeypatch):
    chance = np.random.default_rng(0)
    corner = chance.uniform(0, 60, (400, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(5, 30, (400, 2))], 1)
    boxes, scores = boxes.astype(np.float32), chance.uniform(size=400).astype(np.float32)
    monkeypatch.setattr(mtcnn, "BLOCK", 1000)
    whole = suppress(boxes, scores, 0.4)
    monkeypatch.setattr(mtcnn, "BLOCK", 7)
    assert suppress(boxes, scores, 0.4).tolist() == whole.tolist()
    assert 10 < len(whole) < 400


@settings(max_examples=60, deadline=None)
@given(st.integers(12, 900), st.integers(12, 900), st.floats(0.02, 1))
def test_all_sizes_lie_on_the_canvas_without_touching(width, height, scale):
    levels, (wide, high) = mtcnn._lay_out((width, height), scale)
    taken = np.zeros((high, wide), int)
    for level in levels:
        assert level.left % 2 == level.top % 2 == 0
        across, down = level.size
        taken[level.top : level.top + down, level.left : level.left + across] += 1
    assert taken.max(initial=0) <= 1
    assert taken.sum() == sum(level.size[0] * level.size[1] for level in levels)
    if len(levels) > 3:
        assert taken.sum() > 0.6 * wide * high  # little is computed for nothing


def test_one_canvas_proposes_what_each_size_by_itself_would(cascade):
    """Against the network run on every level, as the paper does."""
    image = np.asarray(data.astronaut())
    boxes, scores = mtcnn._propose(cascade, mtcnn.Pyramid(image), 40.0, 0.6)
    found, scale = [], 12 / 40
    with torch.inference_mode():
        while 512 * scale >= 12:
            side = round(512 * scale)
            level = mtcnn.Pyramid(image).scaled((side, side))
            pixels = (torch.from_numpy(level.copy()).permute(2, 0, 1)[None].float() - 127.5) / 128
            offsets, faces = cascade.proposal(pixels)
            for row, col in torch.argwhere(faces[0] > 0.6).tolist():
                corner = np.array([col * 2, row * 2, col * 2 + 12, row * 2 + 12])
                box = (corner + 12 * offsets[0, :, row, col].numpy()) / scale
                found.append((*box, float(faces[0, row, col])))
            scale *= mtcnn.SCALE_STEP
    every = np.array(found)
    assert 5 < len(boxes) < len(every)
    for box, score in zip(boxes, scores, strict=True):
        if box[2:].max() >= 512:  # the last window may look one pixel beyond its level
            continue
        apart = np.abs(every[:, :4] - box).max(1) + np.abs(every[:, 4] - score)
        assert apart.min() < 0.01


def test_openvino_gives_the_values_of_torch(cascade):
    chance = np.random.default_rng(0)
    other = load_openvino_cascade()
    with torch.inference_mode():
        for name, shape in (
            ("propose", (2, 37, 50, 3)),
            ("refine", (5, 24, 24, 3)),
            ("place", (3, 48, 48, 3)),
        ):
            images = chance.integers(0, 256, shape, dtype=np.uint8)
            expected, found = (getattr(networks, name)(images) for networks in (cascade, other))
            for one, two in zip(expected, found, strict=True):
                np.testing.assert_allclose(two, one, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_suppress_keeps_no_two_that_overlap(seed):
    chance = np.random.default_rng(seed)
    corner = chance.uniform(0, 50, (30, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(5, 30, (30, 2))], 1).astype(np.float32)
    scores = chance.uniform(size=30).astype(np.float32)
    kept = suppress(boxes, scores, 0.3)
    assert kept[0] == scores.argmax()
    for row in range(30):
        overlaps = [_overlap(boxes[row], boxes[other]) for other in kept if other != row]
        stronger = [scores[other] > scores[row] for other in kept if other != row]
        if row in kept:
            assert max(overlaps, default=0) <= 0.3 + 1e-5
        else:
            assert any(o > 0.3 - 1e-5 and s for o, s in zip(overlaps, stronger, strict=True))


def _overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)
