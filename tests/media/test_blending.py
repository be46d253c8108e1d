from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial import ConvexHull

from mfclip.errors import InputError
from mfclip.media import blending
from mfclip.media.blending import (
    hull_mask,
    local_warp,
    random_face_mask,
    retouch,
    self_blend,
    splice,
)

FORGERIES = [lambda image, rng: self_blend(image, rng)[1], local_warp, retouch]


def noise(h: int = 96, w: int = 80) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("forge", FORGERIES)
def test_same_seed_gives_same_picture_and_input_is_untouched(
    forge: Callable[..., np.ndarray],
) -> None:
    image = noise()
    before = image.copy()
    first = forge(image, np.random.default_rng(3))
    np.testing.assert_array_equal(first, forge(image, np.random.default_rng(3)))
    np.testing.assert_array_equal(image, before)
    assert (first != forge(image, np.random.default_rng(4))).any()
    assert first.flags.writeable  # torch.from_numpy warns about arrays it may not write


def test_target_is_untouched_outside_the_mask() -> None:
    image, mask = noise(128, 128), np.zeros((128, 128), np.float32)
    mask[48:80, 48:80] = 1
    untouched = 0
    for seed in range(20):
        real, forged = self_blend(image, np.random.default_rng(seed), mask=mask)
        np.testing.assert_array_equal(forged[:8], real[:8])
        untouched += np.array_equal(real, image)  # else the target was jittered
        inside = np.abs(forged[56:72, 56:72].astype(int) - real[56:72, 56:72]).mean()
        assert inside > 1
    assert 3 <= untouched <= 17  # a fair coin says which view is changed


def test_empty_mask_leaves_one_of_the_two_views() -> None:
    image, empty = noise(), np.zeros((96, 80), np.float32)
    pairs = [self_blend(image, np.random.default_rng(s), mask=empty) for s in range(8)]
    assert all(np.array_equal(real, forged) for real, forged in pairs)
    same = [np.array_equal(forged, image) for _, forged in pairs]
    assert any(same)
    assert not all(same)


def test_blend_equals_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Target + alpha * (source - target), alpha = mask * ratio, with the views spelled out."""
    seen: dict[str, np.ndarray] = {}
    keep = Image.composite

    def composite(source: Image.Image, target: Image.Image, alpha: Image.Image) -> Image.Image:
        seen.update(source=np.array(source), target=np.array(target), alpha=np.array(alpha))
        return keep(source, target, alpha)

    monkeypatch.setattr(blending.Image, "composite", composite)
    _, forged = self_blend(noise(), np.random.default_rng(1))
    alpha = seen["alpha"][..., None] / 255
    expected = seen["target"] + alpha * (seen["source"].astype(float) - seen["target"])
    np.testing.assert_allclose(forged, expected, atol=0.51)
    ratios = [round(255 * ratio) for ratio in blending.BLEND_RATIOS]
    assert min(abs(int(seen["alpha"].max()) - ratio) for ratio in ratios) <= 2


@pytest.mark.parametrize("size", [(256, 256), (200, 120), (31, 64)])
def test_random_mask_is_one_convex_region_in_the_middle(size: tuple[int, int]) -> None:
    h, w = size
    for seed in range(20):
        mask = random_face_mask(h, w, np.random.default_rng(seed))
        assert mask.shape == (h, w)
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert 0.08 < mask.mean() < 0.55  # half axes .20 x .26 (a polygon is smaller) to .36 x .42
        rows, columns = np.nonzero(mask)
        assert abs(rows.mean() / h - 0.52) < 0.12
        assert abs(columns.mean() / w - 0.5) < 0.12
        for line in (*mask, *mask.T):  # convex: every row and column is one run
            assert np.abs(np.diff(line, prepend=0, append=0)).sum() <= 2


def test_hull_mask_has_the_area_of_scipys_hull() -> None:
    points = np.random.default_rng(0).uniform(20, 230, (68, 2))
    mask = hull_mask(points, 256, 256)
    area = ConvexHull(points).volume
    perimeter = ConvexHull(points).area
    assert abs(mask.sum() - area) < perimeter  # the outline's pixels are counted as inside
    columns, rows = points.round().astype(int).T
    assert mask[rows, columns].mean() > 0.9


def test_hull_mask_of_a_rectangle_by_hand() -> None:
    corners = np.array([[2, 1], [6, 1], [6, 4], [2, 4], [4, 2], [2, 1]], float)
    expected = np.zeros((6, 9))
    expected[1:5, 2:7] = 1
    np.testing.assert_array_equal(hull_mask(corners, 6, 9), expected)


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.full((5, 2), np.nan)])
def test_hull_mask_refuses_what_has_no_hull(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least 3 finite landmarks"):
        hull_mask(bad, 10, 10)


def test_splice_by_hand() -> None:
    source, target = np.full((1, 3, 3), 200, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    mask = np.array([[0.0, 0.5, 1.0]])
    plain = splice(source, target, mask, match_colour=False)
    assert plain[0, :, 0].tolist() == [100, 150, 200]
    # A flat source moved to the target's mean is the target.
    np.testing.assert_array_equal(splice(source, target, mask), target)


def test_splice_takes_over_the_colour_of_the_target() -> None:
    source = np.random.default_rng(0).normal(90, 10, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    target = np.random.default_rng(1).normal(150, 25, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((64, 64))
    mask[8:56, 8:56] = 1
    swapped, inside = splice(source, target, mask), mask > 0
    np.testing.assert_allclose(swapped[inside].mean(0), target[inside].mean(0), atol=1)
    np.testing.assert_allclose(swapped[inside].std(0), target[inside].std(0), atol=1)
    correlation = np.corrcoef(swapped[inside].ravel(), source[inside].ravel())[0, 1]
    assert correlation > 0.99  # the content is the source's
    np.testing.assert_array_equal(swapped[~inside], target[~inside])


def test_splice_refuses_an_empty_mask() -> None:
    with pytest.raises(InputError, match="zero everywhere"):
        splice(noise(), noise(), np.zeros((96, 80)))


def test_remap_equals_scipy() -> None:
    image = noise()
    offset = np.random.default_rng(2).normal(0, 4, (2, 96, 80)).astype(np.float32)
    rows, columns = np.mgrid[:96, :80] + offset
    mine = blending._remap(image, offset)
    for channel in range(3):
        plane = image[..., channel].astype(float)
        expected = map_coordinates(plane, [rows, columns], order=1, mode="nearest")
        np.testing.assert_allclose(mine[..., channel], expected, atol=0.01)


def test_warp_moves_the_middle_and_not_the_border() -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 3)).copy()
    columns_too = ramp.transpose(1, 0, 2).copy()
    moved = 0.0
    for seed in range(5):
        for image in (ramp, columns_too):
            change = np.abs(local_warp(image, np.random.default_rng(seed)).astype(int) - image)
            moved = max(moved, change.max())
            # On a ramp of one level a pixel the change is the shift: at most 3 strokes of 5 %.
            assert change.max() <= 30
            assert change[0].max() <= 3
    assert moved > 4


def test_retouch_smooths_weak_detail_and_keeps_strong() -> None:
    rng = np.random.default_rng(0)
    skin = rng.normal(150, 3, (128, 128, 1)).repeat(3, 2).clip(0, 255).astype(np.uint8)
    smooth = retouch(skin, np.random.default_rng(0))
    assert smooth[56:72, 56:72].std() < 0.5 * skin[56:72, 56:72].std()
    np.testing.assert_array_equal(smooth[:4], skin[:4])
    edge = np.full((128, 128, 3), 60, np.uint8)
    edge[:, 64:] = 200
    kept = retouch(edge, np.random.default_rng(0)).astype(int)
    assert kept[64, 65, 0] - kept[64, 62, 0] > 110


def test_hue_matrix_keeps_grey_and_turns_red_into_green() -> None:
    third = blending._hue_matrix(2 * np.pi / 3, 1.0)
    np.testing.assert_allclose(third @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(blending._hue_matrix(0.3, 1.4) @ [5, 5, 5], [5, 5, 5])
    np.testing.assert_allclose(blending._hue_matrix(0.0, 0.0) @ [3, 6, 9], [6, 6, 6])


def test_move_shifts_no_more_than_stated() -> None:
    dot = np.zeros((200, 200, 3), np.uint8)
    dot[98:103, 98:103] = 255
    shifts = []
    for seed in range(30):
        moved = np.asarray(blending._move(Image.fromarray(dot), np.random.default_rng(seed)))
        weight = moved[..., 0].astype(float)
        shifts.append((np.arange(200) * weight.sum(0)).sum() / weight.sum() - 100)
    assert max(np.abs(shifts)) <= 0.015 * 200 * 1.06 + 0.5
    assert np.std(shifts) > 1  # a uniform draw in [-3, 3] has 1.7
