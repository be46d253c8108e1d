"""Forgeries made from real faces: self-blended images and a few small edits.

The self-blended image follows the description of Shiohara and Yamasaki, "Detecting Deepfakes with
Self-Blended Images", CVPR 2022, Sec. 3: two views of one face, a deformed soft mask, a blend. It is
written from the paper alone; where the paper leaves a range open, ours stands beside the number.

Pictures are RGB uint8 in [0, 255]; masks are float32 in [0, 1], 1 = taken from the source. Every
function is fixed by the state of `rng`. Only NumPy and Pillow are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from mfclip.errors import InputError

BLEND_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Strength of the blend, drawn evenly (the paper's set: a full blend half of the time)."""

MAX_SHIFT = 0.015
"""Largest translation of the source, ratio of the side."""

COLOUR_CHANCE = 0.3
"""How often the colours of a copy are changed; its sharpness always is."""

MAX_SCALE = 0.05
"""Largest change of size of the source, ratio."""

_MASK_SIZE = 64
_MIN_LANDMARKS = 3


def self_blend(
    image: UInt8[np.ndarray, "h w 3"],
    rng: np.random.Generator,
    *,
    mask: Float[np.ndarray, "h w"] | None = None,
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]:
    """Make a real face and a forgery of it out of one photograph (SBI, CVPR 2022, Sec. 3).

    One of two copies is changed in colour and sharpness, the source copy is moved and resized, and
    the source is blended into the target inside a deformed, softened mask. The target is the real
    face of the pair: outside the mask the two are equal, so that nothing but the blend tells them
    apart.

    Args:
        image: a face crop; the face lies in the middle, as margin 1.3 leaves it.
        rng: source of all randomness.
        mask: face region, see `hull_mask`; a random one if omitted. It is deformed and softened.

    Returns:
        The real face and the forged one, of the same size.
    """
    h, w = image.shape[:2]
    source = target = Image.fromarray(image)
    if rng.random() < 0.5:  # noqa: PLR2004 - a fair coin
        source = jitter(source, rng)
    else:
        target = jitter(target, rng)
    source = _move(source, rng)
    region = random_face_mask(h, w, rng) if mask is None else mask
    ratio = BLEND_RATIOS[rng.integers(len(BLEND_RATIOS))]
    alpha = _soften(region, rng).point([round(value * ratio) for value in range(256)])
    return np.array(target), np.array(Image.composite(source, target, alpha))


WHOLE_CHANCE, SPOT_CHANCE = 0.1, 0.3
"""How often a reconstruction replaces the whole image, and how often only spots of the face."""


def mix_reconstruction(
    image: UInt8[np.ndarray, "h w 3"],
    reconstruction: UInt8[np.ndarray, "h w 3"],
    rng: np.random.Generator,
    *,
    mask: Float[np.ndarray, "h w"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Let a network's reconstruction show inside a soft mask, as a neural edit does.

    The idea is that of BlenD and TwinD (arXiv 2605.10334): the forgery is aligned to its real
    image to the pixel, so that only the traces of the decoder are left to learn.

    Args:
        image: the real face.
        reconstruction: see `mfclip.media.reconstruction`, the same size.
        rng: source of all randomness.
        mask: face region; a random one if omitted. Spots and whole images do not use it.

    Raises:
        InputError: the two differ in size.
    """
    if image.shape != reconstruction.shape:
        raise InputError(
            f"expected a reconstruction of {image.shape}, but got {reconstruction.shape}; make "
            "reconstructions of these images, at the size at which they are read"
        )
    h, w = image.shape[:2]
    kind = rng.random()
    if kind < WHOLE_CHANCE:
        return reconstruction
    if kind < WHOLE_CHANCE + SPOT_CHANCE:
        region = _spots(h, w, rng)
    else:
        region = random_face_mask(h, w, rng) if mask is None else mask
    alpha = _soften(region, rng)
    ratio = rng.uniform(0.6, 1.0)
    alpha = alpha.point([round(value * ratio) for value in range(256)])
    inside = Image.fromarray(np.ascontiguousarray(reconstruction))
    outside = Image.fromarray(np.ascontiguousarray(image))
    return np.array(Image.composite(inside, outside, alpha))


def _spots(h: int, w: int, rng: np.random.Generator) -> Float[np.ndarray, "{h} {w}"]:
    """Draw one to three ellipses about eyes, nose or mouth."""
    out = np.zeros((h, w), np.float32)
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    for _ in range(int(rng.integers(1, 4))):
        centre = np.array([w, h]) * rng.uniform([0.3, 0.3], [0.7, 0.8])
        axes = np.array([w, h]) * rng.uniform(0.07, 0.2, 2)
        out = np.maximum(out, _polygon(centre + axes * around, h, w))
    return out


def random_face_mask(h: int, w: int, rng: np.random.Generator) -> Float[np.ndarray, "{h} {w}"]:
    """Draw a face-shaped region: an ellipse, or a convex polygon of points on one.

    Args:
        h: height in pixels.
        w: width in pixels.
        rng: source of all randomness.

    Returns:
        Mask with hard edges, centred within 4 % of the middle; half axes 20-36 % of the width and
        26-42 % of the height.
    """
    centre = np.array([w, h]) * (np.array([0.5, 0.52]) + rng.uniform(-0.04, 0.04, 2))
    axes = np.array([w, h]) * rng.uniform([0.20, 0.26], [0.36, 0.42])
    corners = 48 if rng.random() < 0.5 else int(rng.integers(6, 13))  # noqa: PLR2004
    step = 2 * np.pi / corners
    spread = 0.0 if corners == 48 else 0.35  # noqa: PLR2004 - an ellipse keeps even corners
    angles = step * (np.arange(corners) + rng.uniform(-spread, spread, corners))
    points = centre + axes * np.stack([np.cos(angles), np.sin(angles)], 1)
    return _polygon(points, h, w)


def hull_mask(landmarks: Float[np.ndarray, "n 2"], h: int, w: int) -> Float[np.ndarray, "{h} {w}"]:
    """Fill the convex hull of facial landmarks.

    Args:
        landmarks: (x, y) in pixels of the picture.
        h: height of the picture in pixels.
        w: width of the picture in pixels.

    Raises:
        InputError: fewer than three landmarks, or one that is not finite.
    """
    if len(landmarks) < _MIN_LANDMARKS or not np.isfinite(landmarks).all():
        raise InputError(
            f"expected at least {_MIN_LANDMARKS} finite landmarks (x, y), but got "
            f"{len(landmarks)} with values {landmarks.tolist()[:3]}; leave the mask out instead"
        )
    return _polygon(_convex_hull(landmarks), h, w)


def landmark_mask(
    landmarks: Sequence[tuple[float, float]], h: int, w: int, rng: np.random.Generator
) -> Float[np.ndarray, "{h} {w}"]:
    """Draw a face's region from its five landmarks: the inner face, or the face with chin and brow.

    Args:
        landmarks: eyes, tip of the nose, corners of the mouth; x and y as shares of the sides.
        h: height of the picture in pixels.
        w: width of the picture in pixels.
        rng: decides how far the region reaches beyond the landmarks.
    """
    points = np.array(landmarks, np.float64) * (w, h)
    middle = points.mean(0)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    # brow above the eyes and chin below the mouth, about as far again (ArcFace's mean face)
    brow, chin = points[:2] - 0.45 * (mouth - eyes), mouth + 0.75 * (mouth - eyes)
    outline = np.vstack([points, brow, chin[None]])
    reach = rng.uniform(1.0, 1.4)
    return hull_mask(middle + reach * (outline - middle), h, w)


def splice(
    source_face: UInt8[np.ndarray, "h w 3"],
    target_face: UInt8[np.ndarray, "h w 3"],
    mask: Float[np.ndarray, "h w"],
    *,
    match_colour: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    """Put one face into another: an alpha blend after matching mean and spread of each channel.

    Args:
        source_face: aligned face that is put in.
        target_face: aligned face that keeps its surroundings.
        mask: 1 = source, 0 = target, between = mixture.
        match_colour: give the source the target's mean and standard deviation inside the mask.

    Raises:
        InputError: the mask is empty, so nothing would be forged.
    """
    inside = mask > 0
    if not inside.any():
        raise InputError("the mask is zero everywhere; expected a region above 0 to splice")
    source, target = source_face.astype(np.float32), target_face.astype(np.float32)
    if match_colour:
        seen, wanted = source[inside], target[inside]
        gain = wanted.std(0) / np.maximum(seen.std(0), 1.0)
        source = (source - seen.mean(0)) * gain + wanted.mean(0)
    alpha = mask[..., None]
    return _to_uint8(source * alpha + target * (1 - alpha))


def local_warp(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, *, strength: float = 0.05
) -> UInt8[np.ndarray, "h w 3"]:
    """Push parts of the face aside, as the liquify brush of a photo editor does.

    Args:
        image: a face crop.
        rng: source of all randomness.
        strength: largest displacement of one of the three strokes, ratio of the side.
    """
    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    offset = np.zeros((2, h, w), np.float32)
    for _ in range(3):
        row, column = rng.uniform(0.3, 0.75, 2) * (h, w)
        reach = rng.uniform(0.08, 0.16) * min(h, w)
        angle = rng.uniform(0, 2 * np.pi)
        push = rng.uniform(0.5, 1.0) * strength * min(h, w)
        bump = push * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * reach**2))
        offset += bump * np.array([np.sin(angle), np.cos(angle)], np.float32)[:, None, None]
    return _to_uint8(_remap(image, offset))


def retouch(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, *, threshold: float = 12.0
) -> UInt8[np.ndarray, "h w 3"]:
    """Smooth and brighten the skin, keeping the edges, as a beauty filter does.

    Args:
        image: a face crop.
        rng: source of all randomness: region, radius and brightness.
        threshold: detail weaker than about this many levels is smoothed away.
    """
    h, w = image.shape[:2]
    radius = rng.uniform(0.012, 0.02) * min(h, w)
    smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)), np.float32)
    detail = image - smooth
    # Weak detail (pores, wrinkles) vanishes with its square; strong detail (eyes, lips) stays.
    kept = detail**3 / (detail**2 + threshold**2)
    lighter = smooth + kept + rng.uniform(2, 6)
    alpha = np.asarray(_soften(random_face_mask(h, w, rng), rng), np.float32)[..., None] / 255
    return _to_uint8(lighter * alpha + image * (1 - alpha))


def jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change sharpness, and by chance colour (RGB, HSV, brightness, contrast) (SBI, Sec. 3.1).

    Ranges, all uniform: hue 0.1 rad, saturation 15 %, contrast 10 %, brightness 12 levels, each
    channel 16 levels. They are one affine map of (r, g, b), so one pass over the picture.
    """
    if rng.random() >= COLOUR_CHANCE:
        return _change_detail(image, rng)
    hue, saturation = rng.uniform([-0.1, 0.85], [0.1, 1.15])
    contrast, brightness = rng.uniform([0.9, -12], [1.1, 12])
    matrix = contrast * _hue_matrix(hue, saturation)
    grey = 128 * (1 - contrast)
    offset = grey + brightness + rng.uniform(-16, 16, 3)
    rows = np.concatenate([matrix, offset[:, None]], 1)
    return _change_detail(image.convert("RGB", tuple(rows.ravel().tolist())), rng)


def _hue_matrix(hue: float, saturation: float) -> Float[np.ndarray, "3 3"]:
    """Turn colours about the grey axis by `hue` radians and scale their distance from it."""
    grey = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turned: np.ndarray = grey + saturation * (
        np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * across
    )
    return turned


def _change_detail(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lose the fine detail by going down 1.25-3 times and back, or exaggerate it (sharpen)."""
    factor = rng.uniform(1.25, 3.0)
    small = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    down = image.resize(small, Image.Resampling.BILINEAR)
    coarse = down.resize(image.size, Image.Resampling.BILINEAR)
    sharpen = rng.random() < 0.5  # noqa: PLR2004 - a fair coin
    return Image.blend(coarse, image, rng.uniform(1.2, 1.8)) if sharpen else coarse


def _move(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Translate and resize about the middle; what comes in from outside repeats the border."""
    w, h = image.size
    border = int(np.ceil((MAX_SHIFT + MAX_SCALE) * max(h, w))) + 1
    padded = np.pad(np.asarray(image), ((border, border), (border, border), (0, 0)), mode="edge")
    seen = np.array([w, h]) * (1 + rng.uniform(-MAX_SCALE, MAX_SCALE, 2))
    centre = np.array([w, h]) * (0.5 + rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2)) + border
    left, top = (centre - seen / 2).tolist()
    right, bottom = (centre + seen / 2).tolist()
    box = (left, top, right, bottom)
    return Image.fromarray(padded).resize((w, h), Image.Resampling.BILINEAR, box=box)


def _soften(mask: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Image.Image:
    """Deform a mask elastically and blur it so that it fades out inside its region."""
    h, w = mask.shape
    scale = _MASK_SIZE / max(h, w)
    size = (max(2, round(w * scale)), max(2, round(h * scale)))
    small = Image.fromarray(_to_uint8(mask * 255)).resize(size, Image.Resampling.BILINEAR)
    bent = _remap(np.asarray(small)[..., None], _elastic_offset(size, rng))[..., 0]
    blurred = Image.fromarray(_to_uint8(bent)).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.01, 0.05) * _MASK_SIZE)
    )
    inner = blurred.point([max(0, 2 * value - 255) for value in range(256)])
    soft = inner.filter(ImageFilter.GaussianBlur(rng.uniform(0.005, 0.02) * _MASK_SIZE))
    return soft.resize((w, h), Image.Resampling.BICUBIC)


def _elastic_offset(
    size: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "2 rows columns"]:
    """Draw a smooth random displacement in pixels; about 2.5 % of the side."""
    amplitude = 0.025 * max(size)
    coarse = rng.normal(0, amplitude, (2, 6, 6)).astype(np.float32)
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in coarse]
    return np.stack([np.asarray(plane) for plane in planes])


def _remap(
    image: UInt8[np.ndarray, "h w c"], offset: Float[np.ndarray, "2 h w"]
) -> Float[np.ndarray, "h w c"]:
    """Read every pixel at its place plus (row, column) offset, bilinearly, border repeated."""
    h, w, c = image.shape
    y = np.clip(np.arange(h, dtype=np.float32)[:, None] + offset[0], 0, h - 1)
    x = np.clip(np.arange(w, dtype=np.float32)[None, :] + offset[1], 0, w - 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = y - top, x - left
    below, beside = np.minimum(top + 1, h - 1) * w, np.minimum(left + 1, w - 1)
    above = top * w
    flat = image.reshape(-1, c).astype(np.float32)
    weights = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
    places = (above + left, above + beside, below + left, below + beside)
    mixed = np.zeros((h, w, c), np.float32)
    for place, weight in zip(places, weights, strict=True):
        mixed += flat[place] * weight[..., None]
    return mixed


def _polygon(points: Float[np.ndarray, "n 2"], h: int, w: int) -> Float[np.ndarray, "{h} {w}"]:
    canvas = Image.new("L", (w, h))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in points], fill=1)
    return np.array(canvas).astype(np.float32)


def _convex_hull(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """Order the outermost points (Andrew's monotone chain)."""
    ordered = sorted({(float(x), float(y)) for x, y in points})

    def half(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for x, y in sequence:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], (x, y)) <= 0:
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    hull = half(ordered) + half(ordered[::-1])
    return np.array(hull or ordered)


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Return a positive number where a, b, c turn left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _to_uint8(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
