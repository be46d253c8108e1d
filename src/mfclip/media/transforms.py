"""Pictures to model inputs: crops, sizes and training augmentation, on uint8 RGB (h, w, 3).

Every function is pure: what is random comes from the generator it is given. Degradations are mild
and rare on purpose: the traces of a forgery are fine, and most training faces keep them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageFilter

from mfclip.errors import ConfigError
from mfclip.media.perturbations import LEVELS, PERTURBATIONS, perturb

Pixels: TypeAlias = UInt8[np.ndarray, "_ _ 3"]
"""RGB, values in [0, 255]; `_` because input and output of one function may differ in size."""
AugmentLevel: TypeAlias = Literal["none", "light", "strong", "perturb"]

SCALE_CHANCE, JITTER_CHANCE = 0.2, 0.3
"""Shares of faces that ``strong`` rescales (0.9 to 1.1) and recolours (within 10%)."""

PERTURB_CHANCE = 0.5
"""Share of faces that ``perturb`` damages, real and fake alike."""


def centre_square(image: Pixels) -> Pixels:
    """Cut the largest square around the middle; a view."""
    return centre_crop(image, min(image.shape[:2]))


def centre_crop(image: Pixels, size: int) -> Pixels:
    """Cut `size` x `size` pixels around the middle; a view.

    Raises:
        ConfigError: the picture is smaller.
    """
    _check_crop(image, size)
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def random_crop(image: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """Cut `size` x `size` pixels anywhere, every place equally likely; a view.

    Raises:
        ConfigError: the picture is smaller.
    """
    _check_crop(image, size)
    top, left = (int(rng.integers(side - size + 1)) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def flip(image: Pixels) -> Pixels:
    """Exchange left and right; a view."""
    return image[:, ::-1]


def resize_short_side(image: Pixels, size: int) -> Pixels:
    """Scale so that the shorter side has `size` pixels (antialiased bicubic).

    A picture that already has that size is returned as it is: resampling wipes out fine traces.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short == size:
        return image
    return _resize(image, max(1, round(height * size / short)), max(1, round(width * size / short)))


def prepare_face(image: Pixels, *, resize: int, image_size: int) -> Pixels:
    """Turn a picture into a model input, nothing random: square, scale, centre crop.

    Args:
        image: a face of any size.
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the result.

    Raises:
        ConfigError: `resize` is smaller than `image_size`.
    """
    check_sizes(resize, image_size)
    return centre_crop(resize_short_side(centre_square(image), resize), image_size)


def augment(
    image: Pixels,
    *,
    resize: int,
    image_size: int,
    level: AugmentLevel,
    rng: np.random.Generator,
) -> Pixels:
    """Turn a picture into a training input.

    Args:
        image: a face of any size.
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the result.
        level: ``none`` is `prepare_face`; ``light`` crops anywhere and mirrors half of the faces;
            ``strong`` also rescales some (`SCALE_CHANCE`) and recolours or degrades some
            (`DEGRADATIONS`); six of ten are neither rescaled nor degraded; ``perturb`` is
            ``light`` and, for some (`PERTURB_CHANCE`), one of the seven kinds of
            `PERTURBATIONS` at one of its five levels, all equally likely.
        rng: the only source of randomness.

    Raises:
        ConfigError: `resize` is smaller than `image_size`, or the level is unknown.
        MissingExtraError: ``perturb`` compresses videos, for which a package is not installed.
    """
    check_level(level)
    if level == "none":
        return prepare_face(image, resize=resize, image_size=image_size)
    check_sizes(resize, image_size)
    strong = level == "strong"
    image = resize_short_side(centre_square(image), resize)
    if strong and rng.random() < SCALE_CHANCE:
        image = resize_short_side(image, max(image_size, round(resize * rng.uniform(0.9, 1.1))))
    image = random_crop(image, image_size, rng)
    if rng.random() < 0.5:  # noqa: PLR2004
        image = flip(image)
    if level == "perturb" and rng.random() < PERTURB_CHANCE:
        return _perturb_somehow(image, rng)
    return _degrade(image, rng) if strong else image


def check_sizes(resize: int, image_size: int) -> None:
    """Refuse a crop that is larger than what it is cut from.

    Raises:
        ConfigError: `resize` is smaller than `image_size`.
    """
    if resize < image_size:
        message = (
            f"data.resize ({resize} pixels) is smaller than model.image_size ({image_size}); "
            f"set data.resize to {image_size} or more"
        )
        raise ConfigError(message)


def check_level(level: str) -> None:
    """Refuse an unknown level of augmentation.

    Raises:
        ConfigError: the message lists the levels.
    """
    if level not in get_args(AugmentLevel):
        choices = ", ".join(get_args(AugmentLevel))
        raise ConfigError(f"expected augment to be one of [{choices}], but got {level!r}")


def compress_jpeg(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Pass through JPEG of quality 60 to 100, chroma at full or half resolution."""
    subsampling = "4:4:4" if rng.random() < 0.5 else "4:2:0"  # noqa: PLR2004
    return _recode(image, "JPEG", quality=int(rng.integers(60, 101)), subsampling=subsampling)


def compress_webp(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Pass through lossy WebP of quality 60 to 100."""
    return _recode(image, "WEBP", quality=int(rng.integers(60, 101)), method=0)


def blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Blur with a Gaussian of standard deviation 0.5 to 1.5 pixels."""
    radius = float(rng.uniform(0.5, 1.5))
    return np.array(_picture(image).filter(ImageFilter.GaussianBlur(radius)))


def add_noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise of standard deviation 1 to 6 grey levels to every value."""
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1, 6))
    noisy: Pixels = np.rint(image + noise).clip(0, 255).astype(np.uint8)
    return noisy


def down_and_up(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shrink to 0.5 to 0.95 of the size and enlarge again."""
    height, width = image.shape[:2]
    factor = float(rng.uniform(0.5, 0.95))
    small = _resize(image, max(1, round(height * factor)), max(1, round(width * factor)))
    return _resize(small, height, width)


def jitter_colour(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Change brightness, contrast and saturation by up to 10% each."""
    brightness, contrast, saturation = (float(x) for x in rng.uniform(0.9, 1.1, size=3))
    picture = ImageEnhance.Brightness(_picture(image)).enhance(brightness)
    picture = ImageEnhance.Contrast(picture).enhance(contrast)
    return np.array(ImageEnhance.Color(picture).enhance(saturation))


DEGRADATIONS: tuple[tuple[float, Callable[[Pixels, np.random.Generator], Pixels]], ...] = (
    (JITTER_CHANCE, jitter_colour),
    (0.05, blur),
    (0.05, down_and_up),
    (0.05, add_noise),
    (0.10, compress_jpeg),
    (0.03, compress_webp),
)
"""What ``strong`` does to a face, in this order, each with its probability."""


def _degrade(image: Pixels, rng: np.random.Generator) -> Pixels:
    chances = rng.random(len(DEGRADATIONS))
    for chance, (probability, change) in zip(chances, DEGRADATIONS, strict=True):
        if chance < probability:
            image = change(image, rng)
    return image


def _perturb_somehow(image: Pixels, rng: np.random.Generator) -> Pixels:
    kinds = tuple(PERTURBATIONS)
    kind, level = kinds[int(rng.integers(len(kinds)))], int(rng.choice(LEVELS))
    seed = int(rng.integers(2**63))
    # by area: the input is below 256 pixels, where the original draws no blocks
    return perturb(np.ascontiguousarray(image), kind, level, seed=seed, scale_blocks=True)


def _recode(image: Pixels, format_: str, **options: int | str) -> Pixels:
    buffer = io.BytesIO()
    _picture(image).save(buffer, format_, **options)
    return np.array(Image.open(buffer).convert("RGB"))


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    return np.array(_picture(image).resize((width, height), Image.Resampling.BICUBIC))


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image))


def _check_crop(image: Pixels, size: int) -> None:
    height, width = image.shape[:2]
    if not 0 < size <= min(height, width):
        message = f"cannot cut {size} x {size} pixels out of {width} x {height}; resize it first"
        raise ConfigError(message)
