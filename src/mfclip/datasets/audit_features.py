"""Trivial features of a picture file: what a detector could use without looking at the face.

None of them sees where an eye or a mouth is, apart from the 12x12 thumbnail, which sees the layout
of colours and no detail. Pixel values are in [0, 255], RGB.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image

from mfclip.errors import InputError, MissingExtraError
from mfclip.media.images import open_image, read_content

FEATURES = (
    "file size",
    "format",
    "quantisation",
    "dimensions",
    "colour",
    "power spectrum",
    "thumbnail",
)
"""The features, in the order of the report."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "MPO")
MODES = ("RGB", "L", "RGBA", "P", "CMYK")
SPECTRUM_BINS = 64
"""Rings of the radial power spectrum, from 0 to 0.5 cycles a pixel."""

THUMBNAIL = 12
"""Side of the thumbnail in pixels."""

CROP = 512
"""Largest side in pixels of the central square whose spectrum is taken."""

TABLE = 64
"""Entries of one JPEG quantisation table."""


@dataclass(frozen=True, slots=True)
class Features:
    """The trivial features of one file, or why they could not be read.

    Attributes:
        values: a vector for each name of `FEATURES`; empty when the file could not be read.
        problem: why the file could not be read; empty when it could.
    """

    values: Mapping[str, Float[ndarray, "..."]]
    problem: str = ""


def read_features(path: Path) -> Features:
    """Read all trivial features of one file; a damaged file is reported, not raised."""
    try:
        data = read_content(path)
        opened = open_image(data)
    except (InputError, MissingExtraError) as error:
        return Features({}, str(error).removeprefix(f"{path}: "))
    if opened.damage:
        return Features({}, f"the image is damaged ({opened.damage})")
    pixels = opened.pixels
    with Image.open(io.BytesIO(data), formats=(opened.format,)) as image:
        container = describe_container(image)
        tables = quantisation_tables(image)
    height, width = pixels.shape[:2]
    values = {
        "file size": np.array([np.log(len(data))]),
        "format": container,
        "quantisation": tables,
        "dimensions": np.array([np.log(width), np.log(height), np.log(width / height)]),
        "colour": colour_statistics(pixels),
        "power spectrum": radial_power_spectrum(pixels),
        "thumbnail": shrink(pixels),
    }
    return Features({name: value.astype(np.float32) for name, value in values.items()})


def describe_container(image: Image.Image) -> Float[ndarray, "14"]:
    """Tell format, colour mode and header of an opened file as numbers, mostly 0 and 1."""
    info = image.info
    return np.array(
        [
            *(float(image.format == name) for name in FORMATS),
            *(float(image.mode == name) for name in MODES),
            float(bool(info.get("progressive"))),
            float("exif" in info) + 2 * float("icc_profile" in info),
        ]
    )


def quantisation_tables(image: Image.Image) -> Float[ndarray, "128"]:
    """Return the first two JPEG quantisation tables, row by row; 0 where there is none.

    The tables are the encoder's quality setting: two sources saved by different software differ
    here even when no pixel tells them apart.
    """
    tables: dict[int, list[int]] = getattr(image, "quantization", None) or {}
    found = np.zeros((2, TABLE))
    for row, key in enumerate(sorted(tables)[:2]):
        found[row] = tables[key]
    return found.reshape(-1)


def colour_statistics(pixels: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "12"]:
    """Return mean and standard deviation of R, G, B, H, S, V, each in [0, 255].

    Means come first, then deviations.
    """
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV"))
    both = np.concatenate([pixels, hsv], axis=-1).reshape(-1, 6)
    return np.concatenate([both.mean(axis=0), both.std(axis=0)])


def radial_power_spectrum(
    pixels: UInt8[ndarray, "h w 3"], bins: int = SPECTRUM_BINS
) -> Float[ndarray, " {bins}"]:
    """Return log10 of the mean spectral power in rings of equal frequency.

    The luminance of the central square (at most `CROP` pixels a side, never resized, since
    resizing would write its own spectrum) is tapered with a Hann window. Ring `i` covers
    ``[i, i + 1) * 0.5 / bins`` cycles a pixel; rings that a small picture leaves empty are
    interpolated.

    Args:
        pixels: RGB.
        bins: number of rings.
    """
    luminance = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)
    side = min(*luminance.shape, CROP)
    top, left = ((length - side) // 2 for length in luminance.shape)
    square = luminance[top : top + side, left : left + side]
    window, ring, counts = _rings(side, bins)
    power = np.abs(np.fft.rfft2((square - square.mean()) * window)) ** 2 / window.size
    inside = ring < bins
    sums = np.bincount(ring[inside], power[inside], minlength=bins)
    full = counts > 0
    spectrum = np.log10(sums[full] / counts[full] + 1e-6)
    return np.asarray(np.interp(np.arange(bins), np.flatnonzero(full), spectrum))


def shrink(pixels: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "432"]:
    """Return the 12x12 thumbnail, area-averaged, row by row with RGB together."""
    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).reshape(-1)


@lru_cache(maxsize=16)
def _rings(side: int, bins: int) -> tuple[ndarray, ndarray, ndarray]:
    """Window, ring of every half-spectrum coefficient, and coefficients a ring."""
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(side) + 0.5) / side)
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    ring = np.floor(radius * 2 * bins + 1e-9).astype(np.int64)
    counts = np.bincount(ring[ring < bins], minlength=bins)
    return np.outer(taper, taper), ring, counts
