"""The seven distortions at five levels of DeeperForensics-1.0, and four kinds of everyday damage.

Ported from ``perturbation/distortions.py`` of github.com/EndlessSora/DeeperForensics-1.0 (MIT
licence, Jiang et al., CVPR 2020). The original works on BGR with OpenCV; here the pictures are RGB
and only NumPy is needed. The results are OpenCV's: exactly for CC, BW, GB and JPEG; for CS and GNC,
which truncate floats, one value in about 10^5 is one level off.

Every function takes a picture (uint8, [0, 255]), the value of the level and a seed, and returns a
picture of the same size. Only BW and GNC use the seed.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from mfclip.errors import ConfigError, InputError, require
from mfclip.media.fixed_point import gaussian_blur, resize_linear

Number = int | float

LEVELS = (1, 2, 3, 4, 5)
"""Mild to strong; level 0 is the clean picture."""

BLOCK_SIDE = 8
BLOCK_UNIT = 256
"""BW draws its number of blocks once for each whole 256 pixels of the short side."""

MIN_SIDE = 16
"""Smallest picture that every kind can work on, pixels."""

CLIP_FRAMES = 5
"""Frames of the still clip that VC encodes; the middle one is returned.

A still clip flatters the codec: at crf 30 a face of 256 pixels came back with 28.7, 31.1 and
32.8 dB for 1, 5 and 16 frames. Five has neighbours on both sides and stays near a real video.
"""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of damage at five levels.

    Attributes:
        name: in words.
        parameter: what the values are.
        values: at level 1, 2, 3, 4, 5.
        apply: (picture, value, seed) -> picture.
    """

    name: str
    parameter: str
    values: tuple[Number, ...]
    apply: Callable[[np.ndarray, Number, int], np.ndarray]


def perturb(
    image: UInt8[np.ndarray, "h w 3"],
    kind: str,
    level: int,
    *,
    seed: int,
    scale_blocks: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """Damage a picture.

    Args:
        image: RGB.
        kind: a key of `PERTURBATIONS` or `EXTRA_PERTURBATIONS`.
        level: 1 (mild) to 5 (strong); 0 gives the picture itself.
        seed: see `seed_of`. One seed for all levels makes the blocks of a level part of the next
            level's, and the noise the same pattern, only stronger.
        scale_blocks: BW draws blocks in proportion to the area (one unit is 256 x 256 pixels)
            instead of none below 256 pixels. At 256 x 256 both rules agree.

    Raises:
        ConfigError: no such kind or level.
        InputError: the picture is smaller than `MIN_SIDE`.
    """
    perturbation = find_perturbation(kind)
    check_level(level)
    h, w = image.shape[:2]
    if min(h, w) < MIN_SIDE:
        raise InputError(
            f"expected a picture of at least {MIN_SIDE} x {MIN_SIDE} pixels, but got {w} x {h}; "
            "leave it out or use a larger one"
        )
    if level == 0:
        return image
    value = perturbation.values[level - 1]
    if kind == "BW":
        count = num_blocks(h, w, int(value), scale_blocks=scale_blocks)
        return _draw_blocks(image, count, seed)
    return perturbation.apply(image, value, seed)


def find_perturbation(kind: str) -> Perturbation:
    """Look a kind up.

    Raises:
        ConfigError: no such kind; the message lists what there is.
    """
    known = PERTURBATIONS | EXTRA_PERTURBATIONS
    if kind not in known:
        raise ConfigError(f"expected kind to be one of {', '.join(known)}, but got '{kind}'")
    return known[kind]


def check_level(level: int) -> None:
    """Accept 0 to 5.

    Raises:
        ConfigError: no such level.
    """
    if level not in (0, *LEVELS):
        raise ConfigError(f"expected level to be 0 (clean) to {LEVELS[-1]}, but got {level}")


def seed_of(path: PurePath | str) -> int:
    r"""Derive a file's seed from its path, so that two runs and two machines agree.

    Args:
        path: relative to the data set's folder; forward and backward slashes are the same.

    Example:
        >>> seed_of("real/0001.png") == seed_of("real\\0001.png") != seed_of("real/0002.png")
        True
    """
    text = str(path).replace("\\", "/")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def num_blocks(h: int, w: int, value: int, *, scale_blocks: bool) -> int:
    """Count the squares that BW draws.

    Args:
        h: height in pixels.
        w: width in pixels.
        value: squares a unit, see the table.
        scale_blocks: by area instead of by whole 256 pixels of the short side.

    Example:
        >>> [num_blocks(224, 224, 16, scale_blocks=scaled) for scaled in (False, True)]
        [0, 12]
    """
    if scale_blocks:
        return round(value * h * w / BLOCK_UNIT**2)
    return min(h, w) // BLOCK_UNIT * value


def _saturation(
    image: UInt8[np.ndarray, "h w 3"], factor: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    ycc = _to_studio(image)
    ycc[..., 1:] = np.float32(0.5) + (ycc[..., 1:] - np.float32(0.5)) * np.float32(factor)
    faded: np.ndarray = _from_studio(ycc).astype(np.uint8)
    return faded


def _contrast(
    image: UInt8[np.ndarray, "h w 3"], factor: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    darker: np.ndarray = (image.astype(np.float32) * np.float32(factor)).astype(np.uint8)
    return darker


def _blocks(
    image: UInt8[np.ndarray, "h w 3"], value: Number, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    count = num_blocks(image.shape[0], image.shape[1], int(value), scale_blocks=False)
    return _draw_blocks(image, count, seed)


def _draw_blocks(
    image: UInt8[np.ndarray, "h w 3"], count: int, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    h, w = image.shape[:2]
    place = random.Random(seed)
    drawn = image.copy()
    for _ in range(count):
        # As in the original, column before row, and never the last place of either.
        left = place.randint(0, w - 1 - BLOCK_SIDE)
        top = place.randint(0, h - 1 - BLOCK_SIDE)
        drawn[top : top + BLOCK_SIDE, left : left + BLOCK_SIDE] = 128
    return drawn


def _colour_noise(
    image: UInt8[np.ndarray, "h w 3"], variance: Number, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    noise = np.random.default_rng(seed).standard_normal(image.shape)
    noisy = (_to_studio(image) / np.float32(255) + math.sqrt(variance) * noise) * 255
    clipped: np.ndarray = np.clip(_from_studio(noisy.astype(np.float32)), 0, 255).astype(np.uint8)
    return clipped


def _to_studio(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Turn RGB into (Y, Cb, Cr) / 255 as the original does: OpenCV's formula, studio range.

    Y runs from 16/255 to about 219, since the original scales [0, 255] as if it were [0, 1];
    `_from_studio` undoes it. Grey has Cb = Cr = 128/255.
    """
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    luma = red * np.float32(0.299) + green * np.float32(0.587) + blue * np.float32(0.114)
    half = np.float32(0.5)
    chroma_blue = (blue - luma) * np.float32(0.564) + half
    chroma_red = (red - luma) * np.float32(0.713) + half
    full = np.stack([luma, chroma_blue, chroma_red], -1)
    return (full * np.array([219, 224, 224], np.float32) + np.float32(16)) / np.float32(255)


def _from_studio(ycc: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Turn (Y, Cb, Cr) of `_to_studio` back into RGB, not clipped."""
    full = (ycc * np.float32(255) - np.float32(16)) / np.array([219, 224, 224], np.float32)
    luma = full[..., 0]
    blue, red = full[..., 1] - np.float32(0.5), full[..., 2] - np.float32(0.5)
    green = luma + blue * np.float32(-0.344) + red * np.float32(-0.714)
    return np.stack([luma + red * np.float32(1.403), green, luma + blue * np.float32(1.773)], -1)


def _blur(
    image: UInt8[np.ndarray, "h w 3"], size: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    return gaussian_blur(image, int(size), int(size) / 6)


def _pixelate(
    image: UInt8[np.ndarray, "h w 3"], factor: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    h, w = image.shape[:2]
    return resize_linear(resize_linear(image, h // int(factor), w // int(factor)), h, w)


def _video(
    image: UInt8[np.ndarray, "h w 3"], crf: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Show the picture for `CLIP_FRAMES` frames, encode with x264, decode the middle frame."""
    av = require("av", extra="video")
    h, w = image.shape[:2]
    # 4:2:0 needs even sides.
    even = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as clip:
        stream = clip.add_stream("libx264", rate=25, options={"crf": str(int(crf))})
        stream.height, stream.width = even.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the number of threads changes the result
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        for number in range(CLIP_FRAMES):
            frame.pts = number
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, format="mp4") as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    middle: np.ndarray = frames[CLIP_FRAMES // 2][:h, :w]
    return np.ascontiguousarray(middle)


def _encode(image: Image.Image, file_format: str, quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """Write a lossy file, chroma at half resolution, and read it back."""
    file = io.BytesIO()
    image.save(file, file_format, quality=quality)
    with Image.open(file, formats=(file_format,)) as decoded:
        return np.array(decoded.convert("RGB"))


def _jpeg(
    image: UInt8[np.ndarray, "h w 3"], quality: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    return _encode(Image.fromarray(image), "JPEG", int(quality))


def _webp(
    image: UInt8[np.ndarray, "h w 3"], quality: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    return _encode(Image.fromarray(image), "WEBP", int(quality))


def _down_and_up(
    image: UInt8[np.ndarray, "h w 3"], ratio: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize with anti-aliasing (bicubic), as services do with uploads, and back."""
    picture = Image.fromarray(image)
    small = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return np.array(picture.resize(small, Image.Resampling.BICUBIC).resize(picture.size))


def _screenshot(
    image: UInt8[np.ndarray, "h w 3"], ratio: Number, _seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Show the picture smaller, sharpened as screens do, and save that as JPEG of quality 85."""
    picture = Image.fromarray(image)
    small = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    shown = picture.resize(small, Image.Resampling.LANCZOS)
    sharp = shown.filter(ImageFilter.UnsharpMask(radius=1, percent=60, threshold=0))
    saved = Image.fromarray(_encode(sharp, "JPEG", 85))
    return np.array(saved.resize(picture.size, Image.Resampling.BICUBIC))


PERTURBATIONS = {
    "CS": Perturbation("colour saturation", "factor", (0.4, 0.3, 0.2, 0.1, 0.0), _saturation),
    "CC": Perturbation("colour contrast", "factor", (0.85, 0.725, 0.6, 0.475, 0.35), _contrast),
    "BW": Perturbation("grey blocks", "8 x 8 squares", (16, 32, 48, 64, 80), _blocks),
    "GNC": Perturbation(
        "colour noise", "variance", (0.001, 0.002, 0.005, 0.01, 0.05), _colour_noise
    ),
    "GB": Perturbation("Gaussian blur", "kernel in pixels", (7, 9, 13, 17, 21), _blur),
    "JPEG": Perturbation("pixelation", "times smaller", (2, 3, 4, 5, 6), _pixelate),
    "VC": Perturbation("H.264 compression", "crf", (30, 32, 35, 38, 40), _video),
}
"""The grid of DeeperForensics-1.0, Sec. 5.2. Its "JPEG" is pixelation; the name is kept."""

EXTRA_PERTURBATIONS = {
    "jpeg_quality": Perturbation("JPEG", "quality", (90, 75, 60, 45, 30), _jpeg),
    "webp": Perturbation("WebP", "quality", (90, 75, 60, 45, 30), _webp),
    "resize": Perturbation(
        "resize and back", "ratio of the side", (0.8, 0.65, 0.5, 0.35, 0.25), _down_and_up
    ),
    "screenshot": Perturbation(
        "screenshot", "ratio of the side", (0.9, 0.8, 0.7, 0.6, 0.5), _screenshot
    ),
}
"""Damage outside the grid; never averaged into it."""
