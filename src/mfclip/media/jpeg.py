"""JPEG files: the quality one was saved with, how much work it is to decode, and saving a face so.

A detector learns the noise of its training files, compression included. A face that was cut out of
an image and scaled has none of it, and may for that alone look forged.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

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

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""A marker that is neither a stuffed byte nor a restart: what ends a scan's compressed data."""

_BARE = b"\x01\xd8"
"""Markers that no length follows (TEM, SOI)."""


def quality_of(tables: Mapping[int, Sequence[int]]) -> float | None:
    """Estimate the quality a JPEG file was last saved with, from its quantisation tables.

    Args:
        tables: number -> 64 steps; the first one is that of the brightness.

    Returns:
        1 to 100 on libjpeg's scale; other makers' tables get the nearest. None without tables.
    """
    if not tables:
        return None
    table = np.array(tables[min(tables)], np.float64)
    free = table < LARGEST_STEP
    scale = float(np.median((100 * table / BASE_TABLE)[free if free.any() else ~free]))
    return min(max(100 - scale / 2 if scale <= 100 else 5000 / scale, 1.0), 100.0)  # noqa: PLR2004


def count_scans(content: bytes) -> int:
    """Count the scans of a JPEG file, each of which costs a pass over all its coefficients.

    Walks from segment to segment as a decoder does, so that what lies inside a segment (a preview)
    or behind the end (a video, a second image) does not count.
    """
    scans, place = 0, 0
    while (found := _MARKER.search(content, place)) is not None:
        marker, place = found[1], found.end()
        if marker == b"\xd9":
            break
        if marker not in _BARE:
            scans += marker == b"\xda"
            place += max(2, int.from_bytes(content[place : place + 2], "big"))
    return scans


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
            with Image.open(path, formats=("JPEG",)) as image:
                fits = image.size == (side, side)
                quality = quality_of(getattr(image, "quantization", {}))
        except OSError:
            return None
        if not fits or quality is None:
            return None
        qualities.add(round(quality))
    return qualities.pop() if len(qualities) == 1 else None


def save_as_jpeg(face: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """Save as JPEG (colour at half size, as is usual) and read again.

    Args:
        face: RGB.
        quality: 1 to 100.
    """
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))
