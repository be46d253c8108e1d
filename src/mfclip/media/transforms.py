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

Layers: TypeAlias = Pixels | UInt8[np.ndarray, "_ _ 4"]
"""RGB, or RGB and a mask that goes through whatever moves pixels and through nothing else."""
AugmentLevel: TypeAlias = Literal["none", "light", "strong", "perturb", "everyday"]

SCALE_CHANCE, JITTER_CHANCE = 0.2, 0.3
"""Shares of faces that ``strong`` rescales (0.9 to 1.1) and recolours (within 10%)."""

PERTURB_CHANCE = 0.5
"""Share of faces that ``perturb`` damages, real and fake alike."""


def centre_square(image: Layers) -> Layers:
    """Cut the largest square around the middle; a view."""
    return centre_crop(image, min(image.shape[:2]))


def centre_crop(image: Layers, size: int) -> Layers:
    """Cut `size` x `size` pixels around the middle; a view.

    Raises:
        ConfigError: the picture is smaller.
    """
    _check_crop(image, size)
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def random_crop(image: Layers, size: int, rng: np.random.Generator) -> Layers:
    """Cut `size` x `size` pixels anywhere, every place equally likely; a view.

    Raises:
        ConfigError: the picture is smaller.
    """
    _check_crop(image, size)
    top, left = (int(rng.integers(side - size + 1)) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def flip(image: Layers) -> Layers:
    """Exchange left and right; a view."""
    return image[:, ::-1]


def resize_short_side(image: Layers, size: int) -> Layers:
    """Scale so that the shorter side has `size` pixels (antialiased bicubic).

    A picture that already has that size is returned as it is: resampling wipes out fine traces.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short == size:
        return image
    return _resize(image, max(1, round(height * size / short)), max(1, round(width * size / short)))


def prepare_face(image: Layers, *, resize: int, image_size: int) -> Layers:
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
    image: Layers,
    *,
    resize: int,
    image_size: int,
    level: AugmentLevel,
    rng: np.random.Generator,
) -> Layers:
    """Turn a picture into a training input.

    Args:
        image: a face of any size, with its mask as fourth channel if there is one.
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the result.
        level: ``none`` is `prepare_face`; ``light`` crops anywhere and mirrors half of the faces;
            ``strong`` also rescales some (`SCALE_CHANCE`) and recolours or degrades some
            (`DEGRADATIONS`); six of ten are neither rescaled nor degraded; ``perturb`` is
            ``light`` and, for some (`PERTURB_CHANCE`), one of the seven kinds of
            `PERTURBATIONS` at one of its five levels, all equally likely; ``everyday`` is what
            happens to images on their way through cameras, messengers and face crops, see
            `pass_on` and `zoom`.
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
    if level == "everyday":
        image = zoom(_recolour(image, pass_on, rng), image_size, rng)
        return flip(image) if rng.random() < 0.5 else image  # noqa: PLR2004
    if strong and rng.random() < SCALE_CHANCE:
        image = resize_short_side(image, max(image_size, round(resize * rng.uniform(0.9, 1.1))))
    image = random_crop(image, image_size, rng)
    if rng.random() < 0.5:  # noqa: PLR2004
        image = flip(image)
    if level == "perturb" and rng.random() < PERTURB_CHANCE:
        return _recolour(image, _perturb_somehow, rng)
    return _recolour(image, _degrade, rng) if strong else image


def _recolour(
    image: Layers,
    change: Callable[[Pixels, np.random.Generator], Pixels],
    rng: np.random.Generator,
) -> Layers:
    """Change colours and leave the mask, which knows none, as it is."""
    changed = change(image[..., :3], rng)
    return changed if image.shape[2] == 3 else np.dstack([changed, image[..., 3]])  # noqa: PLR2004


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


def jitter_colour(image: Pixels, rng: np.random.Generator, amount: float = 0.1) -> Pixels:
    """Change brightness, contrast and saturation, each by up to `amount` (ratio)."""
    changes = rng.uniform(1 - amount, 1 + amount, size=3)
    brightness, contrast, saturation = (float(change) for change in changes)
    picture = ImageEnhance.Brightness(_picture(image)).enhance(brightness)
    picture = ImageEnhance.Contrast(picture).enhance(contrast)
    return np.array(ImageEnhance.Color(picture).enhance(saturation))


FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
)
"""How programs resample; nobody knows which one an image has met."""

CLEAN_CHANCE = 0.4
"""Share of faces that `pass_on` leaves as they are."""


def pass_on(  # noqa: C901 - a list of chances, one after the other
    image: Pixels, rng: np.random.Generator
) -> Pixels:
    """Do to an image what people and their programs do, real and fake alike.

    In this order, each by chance: colour and brightness, grey; a smaller copy enlarged again, with
    any filter; sharpening or blur; noise; JPEG of quality 30 to 95 or WebP, and JPEG once more.
    """
    if rng.random() < CLEAN_CHANCE:
        return image
    if rng.random() < 0.4:  # noqa: PLR2004
        image = jitter_colour(image, rng, amount=0.25)
    if rng.random() < 0.04:  # noqa: PLR2004
        image = np.array(_picture(image).convert("L").convert("RGB"))
    if rng.random() < 0.4:  # noqa: PLR2004
        image = _scale_there_and_back(image, rng)
    detail = rng.random()
    if detail < 0.15:  # noqa: PLR2004
        image = sharpen(image, rng)
    elif detail < 0.27:  # noqa: PLR2004
        image = blur(image, rng)
    if rng.random() < 0.12:  # noqa: PLR2004
        image = add_noise(image, rng)
    if rng.random() < 0.6:  # noqa: PLR2004
        subsampling = "4:4:4" if rng.random() < 0.3 else "4:2:0"  # noqa: PLR2004
        quality = int(rng.integers(30, 96))
        if rng.random() < 0.15:  # noqa: PLR2004
            image = _recode(image, "WEBP", quality=quality, method=0)
        else:
            image = _recode(image, "JPEG", quality=quality, subsampling=subsampling)
        if rng.random() < 0.25:  # noqa: PLR2004 - sent on once more
            image = _recode(image, "JPEG", quality=int(rng.integers(50, 96)))
    return image


MAX_ZOOM_OUT, MAX_ZOOM_IN, MAX_TURN = 1.2, 0.72, 8.0
"""Sides of the square that `zoom` takes, over the image's; largest turn in degrees."""


def zoom(image: Layers, image_size: int, rng: np.random.Generator) -> Layers:
    """Cut a square of any size near the middle, sometimes a little turned, and scale it.

    Face crops differ in size and in what lies around the face from one program to the next. Beyond
    the image its border is repeated, as `mfclip.media.faces.crop_face` does.

    Args:
        image: a square.
        image_size: side in pixels of the result.
        rng: source of all randomness.
    """
    side = image.shape[0]
    seen = side * float(rng.uniform(MAX_ZOOM_IN, MAX_ZOOM_OUT))
    slack = max(side - seen, 0.06 * side) / 2
    left, top = ((side - seen) / 2 + rng.uniform(-slack, slack, 2)).tolist()
    turns = rng.random() < 0.3  # noqa: PLR2004
    border = int(np.ceil(max(0.0, -left, -top, left + seen - side, top + seen - side))) + 1
    border += round(0.1 * side) if turns else 0  # what a turn brings in from outside
    padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
    picture = _picture(padded)
    if turns:
        middle = (left + seen / 2 + border, top + seen / 2 + border)
        turn = float(rng.uniform(-MAX_TURN, MAX_TURN))
        picture = picture.rotate(turn, Image.Resampling.BICUBIC, center=middle)
    box = (left + border, top + border, left + seen + border, top + seen + border)
    way = FILTERS[int(rng.integers(len(FILTERS)))]
    return np.array(picture.resize((image_size, image_size), way, box=box))


def sharpen(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Sharpen by an unsharp mask of radius 0.6 to 2 pixels and strength 40 to 160 %."""
    mask = ImageFilter.UnsharpMask(float(rng.uniform(0.6, 2)), int(rng.integers(40, 161)), 2)
    return np.array(_picture(image).filter(mask))


def _scale_there_and_back(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shrink to 0.35 to 0.95 of the size (or enlarge by up to 1.5) and scale back."""
    height, width = image.shape[:2]
    factor = float(rng.uniform(0.35, 0.95) if rng.random() < 0.8 else rng.uniform(1.05, 1.5))  # noqa: PLR2004
    first, second = (FILTERS[int(number)] for number in rng.integers(len(FILTERS), size=2))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(_picture(image).resize(size, first).resize((width, height), second))


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
    return np.array(Image.open(buffer, formats=(format_,)).convert("RGB"))


def _resize(image: Layers, height: int, width: int) -> Layers:
    return np.array(_picture(image).resize((width, height), Image.Resampling.BICUBIC))


def _picture(image: Layers) -> Image.Image:
    pixels = np.ascontiguousarray(image)
    if image.shape[2] == 3:  # noqa: PLR2004
        return Image.fromarray(pixels)
    # four channels that Pillow resamples each on its own; RGBA's colours would be weighed by A
    return Image.frombytes("CMYK", image.shape[1::-1], pixels.tobytes())


def _check_crop(image: Layers, size: int) -> None:
    height, width = image.shape[:2]
    if not 0 < size <= min(height, width):
        message = f"cannot cut {size} x {size} pixels out of {width} x {height}; resize it first"
        raise ConfigError(message)
