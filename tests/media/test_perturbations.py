"""The grid against the original's operations, written here with OpenCV on BGR pictures."""

from __future__ import annotations

import io
import itertools
import math
import random
from pathlib import PurePosixPath, PureWindowsPath

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mfclip.errors import ConfigError, InputError
from mfclip.media.perturbations import (
    EXTRA_PERTURBATIONS,
    LEVELS,
    PERTURBATIONS,
    num_blocks,
    perturb,
    seed_of,
)

ALL = [*PERTURBATIONS, *EXTRA_PERTURBATIONS]
FACE = np.ascontiguousarray(astronaut()[0:256, 96:352])
ODD = np.ascontiguousarray(astronaut()[30:319, 101:380])
NOISE = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
PICTURES = [FACE, ODD, NOISE]

DEEPER_FORENSICS = {
    "CS": [0.4, 0.3, 0.2, 0.1, 0.0],
    "CC": [0.85, 0.725, 0.6, 0.475, 0.35],
    "BW": [16, 32, 48, 64, 80],
    "GNC": [0.001, 0.002, 0.005, 0.01, 0.05],
    "GB": [7, 9, 13, 17, 21],
    "JPEG": [2, 3, 4, 5, 6],
    "VC": [30, 32, 35, 38, 40],
}


def bgr_to_ycbcr(bgr: np.ndarray) -> np.ndarray:
    ycrcb = cv2.cvtColor(bgr.astype(np.float32), cv2.COLOR_BGR2YCrCb)
    ycbcr = ycrcb[..., [0, 2, 1]]
    ycbcr[..., 0] = (ycbcr[..., 0] * 219 + 16) / 255
    ycbcr[..., 1:] = (ycbcr[..., 1:] * 224 + 16) / 255
    return ycbcr


def ycbcr_to_bgr(ycbcr: np.ndarray) -> np.ndarray:
    scaled = ycbcr.astype(np.float32)
    scaled[..., 0] = (scaled[..., 0] * 255 - 16) / 219
    scaled[..., 1:] = (scaled[..., 1:] * 255 - 16) / 224
    return cv2.cvtColor(np.ascontiguousarray(scaled[..., [0, 2, 1]]), cv2.COLOR_YCrCb2BGR)


def original(image: np.ndarray, kind: str, value: float, seed: int) -> np.ndarray:
    """Do what the original does to BGR, and swap the channels back."""
    bgr = image[..., ::-1].copy()
    h, w = bgr.shape[:2]
    if kind == "CS":
        ycbcr = bgr_to_ycbcr(bgr)
        ycbcr[..., 1:] = 0.5 + (ycbcr[..., 1:] - 0.5) * value
        bgr = ycbcr_to_bgr(ycbcr).astype(np.uint8)
    elif kind == "CC":
        bgr = (bgr.astype(np.float32) * value).astype(np.uint8)
    elif kind == "BW":
        place = random.Random(seed)
        for _ in range(min(h, w) // 256 * int(value)):
            x = place.randint(0, w - 9)
            y = place.randint(0, h - 9)
            bgr[y : y + 8, x : x + 8] = 128
    elif kind == "GNC":
        noise = np.random.default_rng(seed).standard_normal(bgr.shape)
        noisy = (bgr_to_ycbcr(bgr) / 255 + math.sqrt(value) * noise) * 255
        bgr = np.clip(ycbcr_to_bgr(noisy), 0, 255).astype(np.uint8)
    elif kind == "GB":
        bgr = cv2.GaussianBlur(bgr, (int(value), int(value)), value / 6)
    else:
        bgr = cv2.resize(cv2.resize(bgr, (w // int(value), h // int(value))), (w, h))
    return bgr[..., ::-1]


def test_the_table_is_the_published_one() -> None:
    assert {kind: list(p.values) for kind, p in PERTURBATIONS.items()} == DEEPER_FORENSICS


@pytest.mark.parametrize("image", PICTURES, ids=["face", "odd", "noise"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["CC", "BW", "GB", "JPEG"])
def test_equals_the_original(kind: str, level: int, image: np.ndarray) -> None:
    expected = original(image, kind, DEEPER_FORENSICS[kind][level - 1], seed=5)
    np.testing.assert_array_equal(perturb(image, kind, level, seed=5), expected)


@pytest.mark.parametrize("image", PICTURES, ids=["face", "odd", "noise"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["CS", "GNC"])
def test_equals_the_original_but_for_truncated_ties(
    kind: str, level: int, image: np.ndarray
) -> None:
    expected = original(image, kind, DEEPER_FORENSICS[kind][level - 1], seed=5)
    error = np.abs(perturb(image, kind, level, seed=5).astype(int) - expected)
    assert error.max() <= 1
    assert (error > 0).mean() < 1e-4


def test_saturation_by_hand() -> None:
    """Level 5 keeps the luminance: pure blue is 0.114 * 255 = 29.07, red 76.2, green 149.7."""
    colours = np.zeros((16, 48, 3), np.uint8)
    colours[:, :16, 0] = colours[:, 16:32, 1] = colours[:, 32:, 2] = 255
    grey = perturb(colours, "CS", 5, seed=0)
    assert grey[0, [0, 16, 32]].tolist() == [[76] * 3, [149] * 3, [29] * 3]


def test_contrast_by_hand() -> None:
    image = np.full((16, 16, 3), 101, np.uint8)
    assert [int(perturb(image, "CC", n, seed=0)[0, 0, 0]) for n in LEVELS] == [85, 73, 60, 47, 35]


@pytest.mark.parametrize(("size", "blocks"), [((256, 256), 1), ((511, 800), 1), ((1080, 1920), 4)])
def test_number_of_blocks_of_the_original(size: tuple[int, int], blocks: int) -> None:
    counts = [num_blocks(*size, value, scale_blocks=False) for value in DEEPER_FORENSICS["BW"]]
    assert counts == [blocks * value for value in DEEPER_FORENSICS["BW"]]


def test_blocks_below_256_pixels() -> None:
    small = FACE[:224, :224]
    np.testing.assert_array_equal(perturb(small, "BW", 5, seed=1), small)
    scaled = perturb(small, "BW", 5, seed=1, scale_blocks=True)
    # round(80 * 224^2 / 256^2) = 61 squares of 64 pixels; some overlap.
    grey = (scaled == 128).all(-1).sum()
    assert 0.75 * 61 * 64 < grey <= 61 * 64 + (small == 128).all(-1).sum()
    one, other = (perturb(FACE, "BW", 3, seed=1, scale_blocks=scale) for scale in (False, True))
    np.testing.assert_array_equal(one, other)


def test_blocks_of_a_level_are_part_of_the_next_levels() -> None:
    dark = np.zeros((256, 256, 3), np.uint8)
    grey = [perturb(dark, "BW", level, seed=9) > 0 for level in LEVELS]
    for mild, strong in itertools.pairwise(grey):
        assert (strong[mild]).all()
        assert strong.sum() > mild.sum()


def test_noise_has_the_tabled_spread() -> None:
    """Luminance: 255 * sqrt(value), over 219 / 255 for the studio range."""
    flat = np.full((256, 256, 3), 128, np.uint8)
    for level, value in enumerate(DEEPER_FORENSICS["GNC"][:3], start=1):
        noisy = perturb(flat, "GNC", level, seed=0).astype(float)
        luma = noisy @ [0.299, 0.587, 0.114]
        assert luma.std() == pytest.approx(255 * math.sqrt(value) * 255 / 219, rel=0.03)


@pytest.mark.parametrize("size", [(256, 256), (97, 64), (63, 81)])
def test_video_gets_worse_with_each_level(size: tuple[int, int]) -> None:
    image = np.ascontiguousarray(FACE[: size[0], 60 : 60 + size[1]])
    damaged = [perturb(image, "VC", level, seed=0) for level in LEVELS]
    assert all(picture.shape == image.shape for picture in damaged)
    quality = [peak_signal_noise_ratio(image, picture) for picture in damaged]
    assert quality == sorted(quality, reverse=True)
    assert 20 < quality[-1] < quality[0] < 36
    # Colours stay: a wrong matrix or swapped channels would move the means.
    np.testing.assert_allclose(damaged[0].mean((0, 1)), image.mean((0, 1)), atol=3)


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_and_level(kind: str) -> None:
    image = ODD[:120, :97].copy()
    before = image.copy()
    assert perturb(image, kind, 0, seed=1) is image
    for level in (1, 5):
        damaged = perturb(image, kind, level, seed=1, scale_blocks=True)
        assert damaged.shape == image.shape
        assert damaged.dtype == np.uint8
        assert damaged.flags.writeable
        np.testing.assert_array_equal(
            damaged, perturb(image, kind, level, seed=1, scale_blocks=True)
        )
        assert (damaged != image).any()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", ["BW", "GNC"])
def test_the_seed_matters_where_chance_does(kind: str) -> None:
    assert (perturb(FACE, kind, 3, seed=1) != perturb(FACE, kind, 3, seed=2)).any()


@pytest.mark.parametrize("kind", EXTRA_PERTURBATIONS)
def test_extra_kinds_get_worse_with_each_level(kind: str) -> None:
    likeness = [
        structural_similarity(FACE, perturb(FACE, kind, level, seed=0), channel_axis=2)
        for level in LEVELS
    ]
    assert likeness == sorted(likeness, reverse=True)
    assert 0.4 < likeness[-1] < likeness[0] < 1


@pytest.mark.parametrize(("kind", "file_format"), [("jpeg_quality", "JPEG"), ("webp", "WEBP")])
def test_lossy_kinds_equal_a_file_of_that_quality(kind: str, file_format: str) -> None:
    file = io.BytesIO()
    Image.fromarray(FACE).save(file, file_format, quality=60)
    decoded = np.asarray(Image.open(file).convert("RGB"))
    np.testing.assert_array_equal(perturb(FACE, kind, 3, seed=0), decoded)


@given(st.text(alphabet="ab/._ä", min_size=1, max_size=20))
def test_seed_is_of_the_path_alone(text: str) -> None:
    assert seed_of(text) == seed_of(text.replace("/", "\\"))
    assert 0 <= seed_of(text) < 2**64
    assert seed_of(text) != seed_of(text + "x")


def test_seed_is_fixed_for_ever() -> None:
    """First 8 bytes of SHA-256; sha256("abc") begins ba7816bf8f01cfea (FIPS 180-4)."""
    assert seed_of("abc") == 0xBA7816BF8F01CFEA
    assert seed_of(PurePosixPath("a/b.png")) == seed_of(PureWindowsPath("a\\b.png"))


@pytest.mark.parametrize(
    ("kind", "level", "message"),
    [
        ("blur", 1, "expected kind to be one of CS, CC, BW, GNC, GB, JPEG, VC, jpeg_quality"),
        ("GB", 6, r"expected level to be 0 \(clean\) to 5, but got 6"),
        ("GB", -1, "but got -1"),
    ],
)
def test_wrong_kind_or_level(kind: str, level: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        perturb(FACE, kind, level, seed=0)


def test_tiny_picture_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16 x 16 pixels, but got 40 x 15"):
        perturb(np.zeros((15, 40, 3), np.uint8), "GB", 1, seed=0)
