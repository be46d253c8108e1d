"""JPEG as a trace of its own: the quality a file was saved with, and saving a face alike.

A detector learns the noise of its training files, compression included. A face that was cut out of
a picture and scaled has none of it, and may for that alone look forged.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from mfclip.errors import InputError
from mfclip.media.transforms import Pixels

BASE_TABLE = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    np.float64,
)  # fmt: skip
"""Brightness quantisation of quality 50, row by row (ITU-T T.81, table K.1)."""

LARGEST_STEP = 255
"""Where the tables of ordinary JPEG files are cut off."""

LOOKED_AT = 500
"""Files from which `shared_quality` tells how all were saved."""


def jpeg_quality(data: bytes | Path) -> float | None:
    """Estimate the quality a JPEG file was last saved with, from its quantisation table.

    Returns:
        1 to 100 on libjpeg's scale; other makers' tables get the nearest. None for another format.
    """
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    with Image.open(source) as image:
        if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
            return None
        table = np.array(image.quantization[min(image.quantization)], np.float64)
    free = table < LARGEST_STEP
    scale = float(np.median((100 * table / BASE_TABLE)[free if free.any() else ~free]))
    return min(max(100 - scale / 2 if scale <= 100 else 5000 / scale, 1.0), 100.0)  # noqa: PLR2004


def shared_quality(paths: Sequence[Path], side: int) -> int | None:
    """Tell whether all of some files are square JPEG files of one size and quality.

    Args:
        paths: at most `LOOKED_AT` of them are opened, always the same ones.
        side: pixels.

    Returns:
        The quality; None if they differ, or a file cannot be read.
    """
    chosen = random.Random(0).sample(list(paths), min(LOOKED_AT, len(paths)))
    qualities = set()
    for path in chosen:
        try:
            with Image.open(path) as image:
                fits = image.size == (side, side)
            quality = jpeg_quality(path)
        except (OSError, InputError):
            return None
        if not fits or quality is None:
            return None
        qualities.add(round(quality))
    return qualities.pop() if len(qualities) == 1 else None


def save_as_jpeg(face: Pixels, quality: int) -> Pixels:
    """Save as JPEG (colour at half size, as is usual) and read again.

    Args:
        face: RGB uint8.
        quality: 1 to 100.
    """
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))
