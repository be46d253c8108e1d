"""All sizes of one picture: against means of blocks and against Pillow, upright and turned."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mfclip.media.pyramid import LEAST, Pyramid


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    """A picture that is never halved."""
    return np.ascontiguousarray(np.asarray(data.astronaut())[:301, :407])


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """A picture that is halved twice; sides that 2 and 4 do not divide."""
    scene = Image.fromarray(data.coffee()).resize((4 * LEAST + 3, 2 * LEAST + 1))
    return np.asarray(scene)


def test_halving_takes_the_mean_of_four_pixels(large: np.ndarray) -> None:
    halved = np.asarray(Pyramid(large).halved(1).image)
    even = large[: 2 * LEAST, : 4 * LEAST].astype(float)
    means = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    np.testing.assert_allclose(halved[:LEAST, : 2 * LEAST], means, atol=0.51)
    np.testing.assert_allclose(halved[-1, -1], large[-1, -1], atol=1)  # what is left of an odd side


def test_a_small_picture_is_scaled_from_its_own_pixels(small: np.ndarray) -> None:
    expected = Image.fromarray(small).resize((40, 30), Image.Resampling.BOX, reducing_gap=2.0)
    np.testing.assert_array_equal(Pyramid(small).scaled((40, 30)), np.asarray(expected))


def test_a_large_picture_is_scaled_as_if_from_its_own_pixels(large: np.ndarray) -> None:
    for size in ((240, 120), (60, 30), (21, 10)):
        whole = Image.fromarray(large).resize(size, Image.Resampling.BOX)
        apart = np.abs(Pyramid(large).scaled(size) - np.asarray(whole, int))
        assert apart.mean() < 3  # a pixel more or less in a mean shows where the scene is rough


def test_patches_are_black_beyond_the_border(small: np.ndarray) -> None:
    (patch,) = Pyramid(small).patches(np.array([[-24.0, -24, 24, 24]], np.float32), 24)
    assert not patch[:11, :11].any()
    block = small[:24, :24].reshape(12, 2, 12, 2, 3).mean((1, 3))
    # away from the border of the block the kernel is a mean over about two pixels each way
    np.testing.assert_allclose(patch[14:22, 14:22], block[2:10, 2:10], atol=12)


def test_a_patch_of_its_own_size_is_cut_out_unchanged(small: np.ndarray) -> None:
    (patch,) = Pyramid(small).patches(np.array([[10.4, 20.6, 33.2, 44.0]], np.float32), 24)
    np.testing.assert_array_equal(patch, small[20:44, 10:34])


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("size", ["small", "large"])
def test_turned_sizes_are_those_of_the_turned_picture(
    turns: int, size: str, request: pytest.FixtureRequest
) -> None:
    """An odd side is halved from its other end once it is turned: nothing may shift by that."""
    image = request.getfixturevalue(size)
    turned = Pyramid(image).turned(turns)
    plain = Pyramid(np.ascontiguousarray(np.rot90(image, turns)))
    assert turned.size == plain.size
    asked = (round(turned.size[0] / 9), round(turned.size[1] / 9))
    most = 0 if size == "small" else 4  # a shift by half a pixel would be 9
    assert np.abs(turned.scaled(asked) - plain.scaled(asked).astype(int)).mean() <= most
    middle = np.array(turned.size * 2) / 2 + np.array([-120, -100, 120, 140])
    patches = [p.patches(middle[None].astype(np.float32), 24).astype(int) for p in (turned, plain)]
    assert np.abs(patches[0] - patches[1]).mean() <= most
