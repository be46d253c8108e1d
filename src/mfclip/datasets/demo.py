"""The pictures that ship with mfclip: two public-domain portraits and forgeries made of them.

Eileen Collins (NASA) lies in scikit-image, Grace Hopper (US Navy) in matplotlib. Each face is cut
out with its eyes at fixed places, so that one can be put into the other, and forged by the four
functions of `mfclip.media.blending`. See ``assets/demo/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from mfclip.data.manifest import Manifest, Sample
from mfclip.errors import require
from mfclip.labels import Labels
from mfclip.media.blending import hull_mask, local_warp, retouch, self_blend, splice
from mfclip.media.images import read_image

Points = tuple[tuple[int | float, int | float], ...]

SIZE = 256
"""Side of a face picture, pixels."""

EYES = np.array([[91.5, 100.0], [164.5, 100.0]])
"""Where the two pupils lie in a face picture, (x, y) in pixels; about margin 1.3."""

FACE_QUALITY = 95
"""JPEG quality of every face, real and fake alike; chroma at full resolution."""

PHOTO_QUALITY = 88
"""JPEG quality of the whole photographs; chroma at half resolution."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """One photograph with marks found by a face mesh.

    Attributes:
        name: of the person, beginning of the file names.
        read: gives the photograph.
        eyes: pupils, (x, y) in pixels of the photograph, left one in the picture first.
        outline: points around the face, likewise.
    """

    name: str
    read: Callable[[], np.ndarray]
    eyes: Points
    outline: Points


def make_demo(folder: Path) -> list[Path]:
    """Write ``photo/``, ``real/``, ``fake/`` and ``manifest.csv``.

    Args:
        folder: made where needed; files of the same names are replaced.

    Returns:
        The pictures.

    Raises:
        MissingExtraError: scikit-image (extra ``dev``) or matplotlib (extra ``train``) is absent.
    """
    faces = {portrait.name: _cut(portrait) for portrait in PORTRAITS}
    outlines = {portrait.name: _place(portrait.outline, portrait) for portrait in PORTRAITS}
    photos = [_write_photo(p, folder / "photo" / f"{p.name}.jpg") for p in PORTRAITS]
    samples = []
    for name, other in (("collins", "hopper"), ("hopper", "collins")):
        face, outline = faces[name], outlines[name]
        real = _write(face, folder / "real" / f"{name}.jpg")
        samples.append(Sample(real, Labels(False), "test", name))
        for labels, image in _forgeries(face, outline, faces[other]):
            path = _write(image, folder / "fake" / f"{name}-{labels.generator}.jpg")
            samples.append(Sample(path, labels, "test", name))
    Manifest(tuple(samples), folder).write(folder / "manifest.csv")
    return photos + [sample.path for sample in samples]


def _forgeries(
    face: UInt8[np.ndarray, "h w 3"],
    outline: Float[np.ndarray, "n 2"],
    other: UInt8[np.ndarray, "h w 3"],
) -> list[tuple[Labels, np.ndarray]]:
    region = hull_mask(outline, SIZE, SIZE)
    # Inside the outline, since hair and chin of the two differ.
    inner = hull_mask(outline.mean(0) + 0.82 * (outline - outline.mean(0)), SIZE, SIZE)
    soft = Image.fromarray((inner * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(6))
    swapped = splice(other, face, np.asarray(soft, np.float32) / 255)
    _, blended = self_blend(face, np.random.default_rng(3), mask=region)
    warped = local_warp(face, np.random.default_rng(0), strength=0.06)
    smooth = retouch(face, np.random.default_rng(0), threshold=20.0)
    return [
        (Labels(True, "face_swap", "graphics", "self-blended"), blended),
        (Labels(True, "face_swap", "graphics", "splice"), swapped),
        (Labels(True, "attribute_manipulation", "graphics", "local-warp"), warped),
        (Labels(True, "attribute_manipulation", "graphics", "retouch"), smooth),
    ]


def _cut(portrait: Portrait) -> UInt8[np.ndarray, "h w 3"]:
    """Turn, scale and shift the photograph so that the pupils come to `EYES`."""
    # As complex numbers a similarity is z -> turn * z + shift; Pillow wants new -> old.
    (old_left, old_right), (left, right) = _complex(portrait.eyes), _complex(EYES)
    turn = (old_right - old_left) / (right - left)
    shift = old_left - turn * left
    coefficients = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    photo = Image.fromarray(portrait.read())
    return np.array(
        photo.transform(
            (SIZE, SIZE), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
        )
    )


def _place(points: Points, portrait: Portrait) -> Float[np.ndarray, "n 2"]:
    """Carry points of the photograph over to the face picture."""
    (old_left, old_right), (left, right) = _complex(portrait.eyes), _complex(EYES)
    turn = (right - left) / (old_right - old_left)
    placed = (_complex(points) - old_left) * turn + left
    return np.stack([placed.real, placed.imag], 1)


def _complex(points: object) -> np.ndarray:
    plane: np.ndarray = np.asarray(points, float) @ np.array([1, 1j])
    return plane


def _write(image: UInt8[np.ndarray, "h w 3"], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=FACE_QUALITY, subsampling=0)
    return path


def _write_photo(portrait: Portrait, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(portrait.read()).save(path, quality=PHOTO_QUALITY)
    return path


def _read_collins() -> UInt8[np.ndarray, "h w 3"]:
    photo: np.ndarray = require("skimage.data", extra="dev").astronaut()
    return photo


def _read_hopper() -> UInt8[np.ndarray, "h w 3"]:
    cbook = require("matplotlib.cbook", extra="train")
    return read_image(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


PORTRAITS = (
    Portrait(
        "collins",
        _read_collins,
        ((203.5, 101.1), (246.6, 103.5)),
        (
            (226, 72), (259, 79), (270, 98), (270, 116), (268, 134), (261, 153),
            (250, 165), (238, 174), (221, 177), (205, 172), (195, 162), (185, 148),
            (180, 129), (179, 110), (181, 93), (187, 80), (203, 72),
        ),
    ),
    Portrait(
        "hopper",
        _read_hopper,
        ((222.6, 191.3), (306.2, 187.5)),
        (
            (264, 133), (332, 140), (351, 161), (356, 192), (354, 227), (349, 267),
            (335, 297), (314, 317), (289, 331), (251, 333), (225, 322), (202, 303),
            (186, 274), (177, 234), (173, 200), (177, 169), (196, 145), (238, 134),
        ),
    ),
)  # fmt: skip
