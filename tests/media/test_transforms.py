"""Crops and sizes by hand, degradations against other implementations, augmentation by property."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from skimage.filters import gaussian

from mfclip.errors import ConfigError
from mfclip.media import transforms
from mfclip.media.perturbations import LEVELS, PERTURBATIONS, perturb

NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without fine detail."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * y + 3 * x), np.cos(4 * x), np.sin(6 * x * y)]
    return np.rint(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def is_window(part: np.ndarray, whole: np.ndarray) -> bool:
    windows = sliding_window_view(whole, part.shape)
    return bool((windows == part).all(axis=(-3, -2, -1)).any())


def test_centre_square_by_hand() -> None:
    image = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    np.testing.assert_array_equal(transforms.centre_square(image), image[:, 2:4])
    tall = image.transpose(1, 0, 2)
    np.testing.assert_array_equal(transforms.centre_square(tall), tall[2:4])


def test_centre_crop_by_hand() -> None:
    np.testing.assert_array_equal(transforms.centre_crop(NOISE, 10), NOISE[15:25, 15:25])


@pytest.mark.parametrize("size", [0, -1, 41])
def test_impossible_crop(size: int) -> None:
    for crop in (transforms.centre_crop, lambda i, s: transforms.random_crop(i, s, rng())):
        with pytest.raises(ConfigError, match=f"cannot cut {size} x {size} pixels out of 40 x 40"):
            crop(NOISE, size)


def test_flip_by_hand() -> None:
    row = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert transforms.flip(row).tolist() == [[[3, 4, 5], [0, 1, 2]]]


def test_picture_of_the_right_size_is_not_resampled() -> None:
    assert transforms.resize_short_side(NOISE, 40) is NOISE
    wide = NOISE[:20]
    assert transforms.resize_short_side(wide, 20) is wide


@pytest.mark.parametrize(("height", "width", "size"), [(64, 96, 32), (96, 64, 24), (20, 30, 40)])
def test_resize_equals_torch(height: int, width: int, size: int) -> None:
    image = smooth(height, width)
    found = transforms.resize_short_side(image, size)
    assert min(found.shape[:2]) == size
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(),
        size=found.shape[:2],
        mode="bicubic",
        antialias=True,
    )[0].permute(1, 2, 0)
    assert np.abs(found - expected.numpy()).max() <= 1.5  # Pillow rounds between its two passes


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = transforms.resize_short_side(stripes, 16)[2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() <= 2


def test_prepared_face_of_the_right_size_keeps_its_pixels() -> None:
    face = transforms.prepare_face(NOISE, resize=40, image_size=32)
    np.testing.assert_array_equal(face, NOISE[4:36, 4:36])


@settings(max_examples=30, deadline=None)
@given(height=st.integers(20, 90), width=st.integers(20, 90))
def test_brighter_on_top_stays_brighter_on_top(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = 200
    face = transforms.prepare_face(image, resize=40, image_size=32)
    assert face.shape == (32, 32, 3)
    assert face[:12].min() > 180
    assert face[-12:].max() < 20


def test_channels_keep_their_order() -> None:
    image = np.zeros((50, 70, 3), np.uint8)
    image[..., 0] = 200
    face = transforms.prepare_face(image, resize=40, image_size=32)
    assert face.mean(axis=(0, 1)).tolist() == [200, 0, 0]


@pytest.mark.parametrize("level", ["none", "light", "strong", "perturb"])
def test_crop_larger_than_the_picture_is_refused(level: transforms.AugmentLevel) -> None:
    with pytest.raises(ConfigError, match=r"data\.resize \(32 pixels\) is smaller than model"):
        transforms.augment(NOISE, resize=32, image_size=40, level=level, rng=rng())


def test_unknown_level() -> None:
    with pytest.raises(
        ConfigError, match=r"one of \[none, light, strong, perturb, everyday\], but got 'wild'"
    ):
        transforms.check_level("wild")


def test_random_crop_reaches_every_place_equally() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)
    generator = rng()
    corners = Counter(
        int(transforms.random_crop(image, 3, generator)[0, 0, 0]) for _ in range(2000)
    )
    assert sorted(corners) == [0, 1, 4, 5]
    assert all(abs(count - 500) < 100 for count in corners.values())


def test_level_none_is_the_evaluation_path() -> None:
    face = transforms.augment(NOISE, resize=36, image_size=32, level="none", rng=rng())
    expected = transforms.prepare_face(NOISE, resize=36, image_size=32)
    np.testing.assert_array_equal(face, expected)


def test_light_only_moves_and_mirrors() -> None:
    mirrored = 0
    for seed in range(60):
        face = transforms.augment(NOISE, resize=40, image_size=32, level="light", rng=rng(seed))
        plain = is_window(face, NOISE)
        assert plain or is_window(face[:, ::-1], NOISE)
        mirrored += not plain
    assert 15 < mirrored < 45


def test_strong_leaves_the_expected_share_untouched() -> None:
    untouched = 0
    for seed in range(300):
        face = transforms.augment(NOISE, resize=40, image_size=32, level="strong", rng=rng(seed))
        assert face.shape == (32, 32, 3)
        untouched += is_window(face, NOISE) or is_window(face[:, ::-1], NOISE)
    chances = [probability for probability, _ in transforms.DEGRADATIONS]
    expected = (1 - transforms.SCALE_CHANCE) * np.prod(1 - np.array(chances))
    assert untouched / 300 == pytest.approx(expected, abs=0.1)


def test_perturb_is_light_and_then_one_cell_of_the_grid_for_half_of_the_faces() -> None:
    face = smooth(40, 40)
    seen: Counter[tuple[str, int]] = Counter()
    for seed in range(80):
        crop = transforms.augment(face, resize=40, image_size=32, level="light", rng=rng(seed))
        got = transforms.augment(face, resize=40, image_size=32, level="perturb", rng=rng(seed))
        if np.array_equal(got, crop):
            continue
        cells = [
            (kind, level)
            for kind in PERTURBATIONS
            if kind not in {"BW", "GNC"}  # these draw from the seed
            for level in LEVELS
            if np.array_equal(got, perturb(np.ascontiguousarray(crop), kind, level, seed=0))
        ]
        seen[cells[0] if cells else ("seeded", 0)] += 1
    assert 20 < seen.total() < 55  # half of them, less the blocks: hardly any at 32 pixels
    assert {kind for kind, _ in seen} == {*PERTURBATIONS, "seeded"} - {"BW", "GNC"}
    assert {level for _, level in seen} == {0, *LEVELS}


@pytest.mark.parametrize("level", ["light", "strong", "perturb"])
def test_same_generator_same_pixels(level: transforms.AugmentLevel) -> None:
    faces = [
        transforms.augment(NOISE, resize=40, image_size=32, level=level, rng=rng(seed))
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(faces[0], faces[1])
    assert not np.array_equal(faces[0], faces[2])


@pytest.mark.parametrize("change", [change for _, change in transforms.DEGRADATIONS])
def test_degradations_are_mild_pure_and_do_something(change: object) -> None:
    image = smooth(48, 32) // 2 + NOISE[:24, :32].repeat(2, axis=0) // 8
    before = image.copy()
    found = [change(image, rng(seed)) for seed in range(8)]
    np.testing.assert_array_equal(image, before)
    for one in found:
        assert one.shape == image.shape
        assert one.dtype == np.uint8
        assert np.abs(one.astype(int) - image).mean() < 25
    assert any(not np.array_equal(one, image) for one in found)
    assert any(not np.array_equal(one, found[0]) for one in found)


@pytest.mark.parametrize("seed", range(4))
def test_blur_equals_a_true_gaussian(seed: int) -> None:
    radius = rng(seed).uniform(0.5, 1.5)
    image = NOISE // 4 + 96
    expected = gaussian(image.astype(float), sigma=radius, channel_axis=-1, mode="nearest")
    difference = transforms.blur(image, rng(seed))[5:-5, 5:-5] - expected[5:-5, 5:-5]
    assert np.abs(difference).mean() < 1


def test_noise_has_the_drawn_deviation() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    generator = rng(5)
    generator.standard_normal(grey.shape, dtype=np.float32)
    deviation = generator.uniform(1, 6)
    noise = transforms.add_noise(grey, rng(5)).astype(float) - 128
    rounding = 1 / 12  # variance of rounding to whole levels
    assert noise.std() == pytest.approx(np.sqrt(deviation**2 + rounding), rel=0.01)
    assert abs(noise.mean()) < 0.1


def test_down_and_up_removes_the_finest_detail_only() -> None:
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    board = board[..., None].repeat(3, axis=2)
    assert transforms.down_and_up(board, rng(1)).std() < 0.5 * board.std()
    flat = np.full((32, 32, 3), 90, np.uint8)
    np.testing.assert_array_equal(transforms.down_and_up(flat, rng(1)), flat)


def test_jitter_of_a_grey_picture_is_its_brightness() -> None:
    """Contrast turns about the mean and saturation about grey: neither moves a flat grey."""
    brightness = rng(2).uniform(0.9, 1.1, size=3)[0]
    flat = np.full((8, 8, 3), 100, np.uint8)
    found = transforms.jitter_colour(flat, rng(2))
    assert np.abs(found - 100 * brightness).max() <= 1


@pytest.mark.parametrize("change", [transforms.compress_jpeg, transforms.compress_webp])
def test_compression_keeps_a_flat_picture(change: object) -> None:
    flat = np.full((32, 32, 3), 120, np.uint8)
    assert np.abs(change(flat, rng()).astype(int) - 120).max() <= 2


@pytest.mark.parametrize("level", ["none", "light", "strong", "everyday"])
def test_a_mask_goes_with_the_pixels_and_changes_none(level: transforms.AugmentLevel) -> None:
    image = smooth(50, 60)
    mask = np.zeros((50, 60), np.uint8)
    mask[10:40, 20:50] = 255
    sizes = {"resize": 44, "image_size": 32, "level": level}
    for seed in range(12):
        both = transforms.augment(np.dstack([image, mask]), **sizes, rng=rng(seed))
        alone = transforms.augment(image, **sizes, rng=rng(seed))
        np.testing.assert_array_equal(both[..., :3], alone)
        # a mask drawn into a picture, moved by the same draws and never recoloured, is the truth
        drawn = transforms.augment(np.dstack([mask] * 4), **sizes, rng=rng(seed))
        np.testing.assert_array_equal(both[..., 3], drawn[..., 3])
    full = np.dstack([image, np.full((50, 60), 255, np.uint8)])
    assert (transforms.augment(full, **sizes, rng=rng(1))[..., 3] == 255).all()


def test_a_mask_is_cropped_and_mirrored_like_its_picture() -> None:
    picture = np.dstack([smooth(60, 60)[..., :1]] * 4)  # all four channels alike
    for seed in range(8):
        moved = transforms.augment(picture, resize=48, image_size=32, level="light", rng=rng(seed))
        np.testing.assert_array_equal(moved[..., 3], moved[..., 0])
