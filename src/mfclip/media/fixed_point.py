"""Blur and resize of uint8 pictures, bit for bit as OpenCV computes them in integers.

DeeperForensics-1.0 defines two of its distortions by OpenCV calls; these keep OpenCV out of the
dependencies. Written after the arithmetic of its ``smooth.dispatch.cpp`` and ``resize.cpp``
(Apache-2.0); no code is taken over.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8


def gaussian_blur(
    image: UInt8[np.ndarray, "h w 3"], size: int, sigma: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Blur with weights in 1/256, rounding once at the end; the border is mirrored.

    Args:
        image: pixel values in [0, 255].
        size: of the kernel, odd, in pixels; half of it must be below the short side.
        sigma: standard deviation in pixels.
    """
    weights = _gaussian_weights(size, sigma)
    h, w = image.shape[:2]
    reach = size // 2
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.uint32)
    rows = np.zeros((h + 2 * reach, w, 3), np.uint32)
    for start, weight in enumerate(weights):
        rows += weight * wide[:, start : start + w]
    total = np.full((h, w, 3), 1 << 15, np.uint32)
    for start, weight in enumerate(weights):
        total += weight * rows[start : start + h]
    return (total >> 16).astype(np.uint8)


def resize_linear(
    image: UInt8[np.ndarray, "h w 3"], h: int, w: int
) -> UInt8[np.ndarray, "{h} {w} 3"]:
    """Resize bilinearly with weights in 1/2048 and no anti-aliasing (INTER_LINEAR).

    Args:
        image: pixel values in [0, 255].
        h: wanted height in pixels.
        w: wanted width in pixels.
    """
    left, right, near, far = _linear_taps(image.shape[1], w, stop_at_border=True)
    wide = image.astype(np.int32)
    rows = wide[:, left] * near[:, None] + wide[:, right] * far[:, None]
    above, below, near, far = _linear_taps(image.shape[0], h, stop_at_border=False)
    upper = ((rows[above] >> 4) * near[:, None, None]) >> 16
    lower = ((rows[below] >> 4) * far[:, None, None]) >> 16
    resized: np.ndarray = ((upper + lower + 2) >> 2).astype(np.uint8)
    return resized


def _linear_taps(
    size: int, wanted: int, *, stop_at_border: bool
) -> tuple[
    Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]
]:
    """Return the two places each new pixel reads and their weights."""
    # 1 / (a / b) is not b / a in floating point, and OpenCV computes the former.
    position = ((np.arange(wanted) + 0.5) * (1 / (wanted / size)) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int32)
    part = (position - first).astype(np.float32)
    if stop_at_border:
        part[(first < 0) | (first + 1 >= size)] = 0
    near = np.rint((1 - part) * np.float32(2048)).astype(np.int32)
    far = np.rint(part * np.float32(2048)).astype(np.int32)
    return first.clip(0, size - 1), (first + 1).clip(0, size - 1), near, far


def _gaussian_weights(size: int, sigma: float) -> list[np.uint32]:
    """Round a Gaussian to 1/256, passing each error on; the middle takes the rest."""
    exact = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    side: list[int] = []
    error = 0.0
    for value in (exact / exact.sum() * 256)[: size // 2]:
        side.append(round(value + error))
        error += value - side[-1]
    return [np.uint32(weight) for weight in (*side, 256 - 2 * sum(side), *side[::-1])]
