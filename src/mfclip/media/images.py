"""One picture file or byte string to RGB pixels, or a clear reason why not.

Pillow decodes, and for plain JPEGs libjpeg-turbo directly where the package ``simplejpeg`` (MIT) is
installed: Pillow uses the same library, so the pixels are the same, in about half the time.

Colour profiles (ICC) are not applied: the pixel values are what a detector looks at, and applying a
profile would change every one of them.
"""

from __future__ import annotations

import importlib
import io
import stat
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from mfclip.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Endings, in lower case, by which a folder is searched for pictures."""

MAX_PIXELS = 178_956_970
"""Largest width x height that is decoded (512 MiB of RGB); Pillow's own limit for an error."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (EXIF 2.32, table 4.6.4) -> what turns the stored picture upright."""


def read_image(source: Path | bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a picture to RGB, upright, 8 bits a channel.

    The EXIF orientation is applied; transparent pixels are laid on white; of an animated file the
    first frame is taken; 16-bit values are scaled to 8 bits by their high byte, as Pillow does for
    16-bit colour; grey, palette and CMYK pictures become RGB.

    Args:
        source: a file, or the file's content.

    Returns:
        Pixel values in [0, 255]; writable and contiguous.

    Raises:
        InputError: the file cannot be opened, is empty, no picture, damaged, or larger than
            `MAX_PIXELS`; the message begins with the path.
    """
    if isinstance(source, bytes):
        if not source:
            raise InputError("the picture is empty (0 bytes); expected an image file's content")
        return _decode(io.BytesIO(source), "the picture")
    _check_file(source)
    try:
        with source.open("rb") as file:
            return _decode(file, str(source))
    except PermissionError:
        message = f"{source}: no permission to read it; change its permissions or run as its owner"
        raise InputError(message) from None
    except OSError as error:
        raise InputError(f"{source}: cannot be opened ({error.strerror or error})") from None


def _check_file(path: Path) -> None:
    """Refuse what is not a non-empty regular file (a pipe would block for ever)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            message = f"{path}: a link to a file that does not exist; restore its target"
            raise InputError(message) from None
        raise InputError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to look into its folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be opened ({reason})") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a folder; expected an image file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; expected an image file")
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); expected an image file")


def _decode(file: io.BytesIO | io.BufferedReader, name: str) -> UInt8[np.ndarray, "h w 3"]:
    _silence_pillow()
    try:
        with Image.open(file) as image:
            _check_size(image.size, name)
            pixels = _decode_jpeg(image, file)
            if pixels is not None:
                return pixels
            image.load()
            return np.array(_upright(_to_rgb(image, name), image))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(_too_large(name)) from None
    except UnidentifiedImageError:
        message = f"{name}: not a picture in a known format; expected JPEG, PNG, WebP or the like"
        raise InputError(message) from None
    except Exception as error:  # decoders of damaged files raise errors of every kind
        message = f"{name}: the picture is damaged or cut short ({error}); get it anew"
        raise InputError(message) from error


def _decode_jpeg(
    image: Image.Image, file: io.BytesIO | io.BufferedReader
) -> UInt8[np.ndarray, "h w 3"] | None:
    """Decode without Pillow; None where that is not sure to be exact: Pillow has to do it."""
    turbo = _libjpeg_turbo()
    plain = image.format == "JPEG" and image.mode == "RGB"
    if turbo is None or not plain or _orientation(image) in _UPRIGHT:
        return None
    file.seek(0)
    try:
        pixels: UInt8[np.ndarray, "h w 3"] = turbo.decode_jpeg(file.read(), "RGB")
    except ValueError:  # damaged: Pillow may still read it, and words what is wrong
        file.seek(0)
        return None
    return pixels


@cache
def _libjpeg_turbo() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"{name}: the picture has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, f"{width} x {height} pixels, "))


def _too_large(name: str, found: str = "") -> str:
    return (
        f"{name}: {found}more than the {MAX_PIXELS:,} pixels that are read; "
        "scale it down or cut out the face first"
    )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_whole_numbers(image, name)
    if image.mode == "F":
        return _from_fractions(image, name)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_whole_numbers(image: Image.Image, name: str) -> Image.Image:
    """Grey with 16 bits; Pillow itself would clip it at 255 instead of scaling."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        message = f"{name}: grey values beyond 16 bits; save it with 8 or 16 bits a pixel"
        raise InputError(message)
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _from_fractions(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if not (values.min() >= 0 and values.max() <= 1):  # also refuses NaN
        message = f"{name}: floating-point pixels outside [0, 1]; save it with 8 bits a pixel"
        raise InputError(message)
    return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the EXIF orientation."""
    method = _UPRIGHT.get(_orientation(original))
    return rgb if method is None else rgb.transpose(method)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; unreadable EXIF counts as upright."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the pixels are good; damaged EXIF raises errors of every kind
        return 1
    return orientation if isinstance(orientation, int) else 1


def _silence_pillow() -> None:
    """Ignore Pillow's warnings: what matters of them is an `InputError` here.

    A filter, not ``catch_warnings``: that one is not thread-safe, and pictures are read in threads.
    """
    known = any(
        action == "ignore" and getattr(module, "pattern", None) == r"PIL\."
        for action, _, _, module, _ in warnings.filters
    )
    if not known:
        warnings.filterwarnings("ignore", module=r"PIL\.")
