from __future__ import annotations

import cv2
import numpy as np
import pytest

from mfclip.media.fixed_point import gaussian_blur, resize_linear

SIZES = [(256, 256), (257, 199), (16, 40), (240, 320)]


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", [3, 7, 9, 13, 17, 21])
def test_blur_equals_opencv_bit_for_bit(size: tuple[int, int], kernel: int) -> None:
    image = picture(size)
    expected = cv2.GaussianBlur(image, (kernel, kernel), kernel / 6)
    np.testing.assert_array_equal(gaussian_blur(image, kernel, kernel / 6), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wanted", [(128, 128), (85, 66), (50, 97), (300, 411), (256, 256)])
def test_resize_equals_opencv_bit_for_bit(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = picture(size)
    expected = cv2.resize(image, wanted[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_linear(image, *wanted), expected)


def test_blur_of_a_dot_by_hand() -> None:
    """Kernel 3, sigma 0.5: weights 27, 202, 27 of 256 (exp(-2) / (1 + 2 exp(-2)) = 0.1065)."""
    dot = np.zeros((5, 5, 3), np.uint8)
    dot[2, 2] = 255
    row = gaussian_blur(dot, 3, 0.5)[2, :, 0]
    assert row.tolist() == [0, 21, 159, 21, 0]  # 255 * 27 * 202 / 65536 = 21.2, 158.8


def test_resize_to_half_by_hand() -> None:
    image = np.array([[0, 10], [20, 30]], np.uint8)[..., None].repeat(3, 2)
    assert resize_linear(image, 1, 1)[0, 0].tolist() == [15, 15, 15]
