"""One image file, read once: its pixels, hash, format, JPEG quality, and whether it is damaged.

Pillow decodes, and for JPEGs libjpeg-turbo directly (``simplejpeg``, MIT): the same library that
Pillow uses, so the pixels are the same, in about half the time; and unlike Pillow it says when the
data are corrupt. Only the formats of `mfclip.media.sniff` are opened.

What a file may cost is known from its header and bounded before anything is decoded: pixels, bytes
held meanwhile, and passes over a progressive JPEG. Decoders of `UNBOUNDED_FORMATS` may need more
than their header says; `mfclip.media.isolated` runs them in a process with a limit of its own.

Colour profiles (ICC) are not applied: the pixel values are what a detector looks at, and applying a
profile would change every one of them.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from mfclip.errors import InputError, MissingExtraError, require
from mfclip.media.jpeg import count_scans, quality_of
from mfclip.media.sniff import HEAD, ImageFormat, image_format, video_format
from mfclip.media.transforms import Pixels

IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""Endings, in lower case, that promise an image; the content decides."""

MAX_PIXELS = 178_956_970
"""Largest width x height that is decoded (512 MiB of RGB); Pillow's own limit for an error."""

MAX_BYTES = 5 << 29
"""Most memory that decoding one image may take (2.5 GiB), as `BYTES_PER_PIXEL` estimates it."""

MAX_FILE = 640 << 20
"""Largest image file that is read, bytes."""

PASSES = 10
"""Passes over a progressive JPEG that encoders make."""

MAX_SCANS = 100
"""Passes that are read at most, as in libtiff."""

MAX_SCANNED = 2_500_000_000
"""And passes x pixels: a few seconds of work."""

BYTES_PER_PIXEL: dict[ImageFormat, int] = {
    "AVIF": 18, "BMP": 12, "GIF": 12, "HEIF": 24, "JPEG": 14, "PNG": 12, "PPM": 12, "TIFF": 12,
    "WEBP": 20,
}  # fmt: skip
"""Highest use of memory while an image of this format becomes RGB, bytes a pixel, the file left
out, for the worst kinds of file; ``tests/media/test_decoding_memory.py`` measures it."""

UNBOUNDED_FORMATS: frozenset[ImageFormat] = frozenset({"AVIF", "HEIF", "TIFF"})
"""Formats that can make their decoder ask for more than the header's size explains: tiles and coded
frames have sizes of their own."""

STRIP = 128
"""Rows that are converted to RGB together."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}
"""EXIF orientation (EXIF 2.32, table 4.6.4) -> what turns the stored image upright."""

_TURBO_COLOURS = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Pillow's mode of a JPEG -> the colours to ask libjpeg-turbo for."""

_HARMLESS = "unknown JFIF revision"
"""The one warning of libjpeg that says nothing about the pixels."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image that was read, with everything that is asked of its file.

    Attributes:
        pixels: RGB, upright, values in [0, 255]; writable and contiguous.
        path: the file as it was named by the caller; None for bytes.
        sha256: of the file's bytes, in hexadecimal.
        format: Pillow's name.
        quality: that a JPEG was last saved with, 1 to 100; None for other formats.
        damage: why its decoder calls the file corrupt though it gave pixels; empty for a whole one.
    """

    pixels: Pixels
    path: str | None
    sha256: str
    format: ImageFormat
    quality: float | None = None
    damage: str = ""


class NotAnImageError(InputError):
    """The file holds no image that is read.

    Attributes:
        is_video: it holds a video.
    """

    def __init__(self, message: str, *, is_video: bool = False) -> None:
        super().__init__(message)
        self.is_video = is_video


def read_image(source: Path | bytes) -> Pixels:
    """Decode a whole image to RGB, upright, 8 bits a channel; see `open_image`.

    Raises:
        InputError: as `open_image`, and for a corrupt file of which a part could be decoded.
    """
    image = open_image(source)
    if image.damage:
        raise InputError(_damaged(image.path or "the image", image.damage))
    return image.pixels


def open_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read an image, opening its file once.

    The EXIF orientation is applied; transparent pixels are laid on white; of an animated file the
    first frame is taken; 16-bit values are scaled to 8 bits by their high byte, as Pillow does for
    16-bit colour; grey, palette and CMYK images become RGB.

    Args:
        source: a file, or the file's content.
        max_pixels: largest width x height.

    Raises:
        InputError: the file cannot be opened, is empty, no image, damaged, or takes more than
            `max_pixels`, `MAX_BYTES` or `MAX_SCANS`; the message begins with the path.
        NotAnImageError: it is no image that is read.
        MissingExtraError: the package that reads HEIF is not installed.
    """
    return EncodedImage(source, max_pixels=max_pixels).decode()


class EncodedImage:
    """An image file in memory; its header was read and promises no more than is allowed.

    Args:
        source: a file, or the file's content.
        max_pixels: largest width x height.

    Attributes:
        path: the file as it was named by the caller; None for bytes.
        content: the file's bytes.
        format: Pillow's name.
        cost: bytes that decoding takes at most, as far as the header tells the truth.
        work: pixels that are decoded, each further `PASSES` of a progressive JPEG as new ones.

    Raises:
        InputError: as `open_image`.
    """

    def __init__(self, source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> None:
        self.path = None if isinstance(source, bytes) else str(source)
        self._name = self.path or "the image"
        self.content = source if isinstance(source, bytes) else read_content(source)
        self.format = self._recognise()
        with _explain_failure(self._name):
            self._image = Image.open(io.BytesIO(self.content), formats=(self.format,))
            self.cost, self.work = self._check(max_pixels)

    def decode(self) -> ImageFile:
        """Return the image; may be called once.

        Raises:
            InputError: it is damaged.
        """
        damage, quality, pixels = "", None, None
        with _explain_failure(self._name), self._image as image:
            if self.format == "JPEG":
                quality = quality_of(getattr(image, "quantization", {}))
                pixels, damage = _decode_jpeg(self.content, image.mode)
            if pixels is None:
                image.load()
                pixels = _to_rgb(image, self._name)
            turn = _UPRIGHT.get(_orientation(image))  # TIFFs are turned, and say so, once loaded
        if turn is not None:
            pixels = np.ascontiguousarray(turn(pixels))
        digest = hashlib.sha256(self.content).hexdigest()
        return ImageFile(pixels, self.path, digest, self.format, quality, damage)

    def _recognise(self) -> ImageFormat:
        if not self.content:
            raise InputError(f"{self._name} is empty (0 bytes); expected an image file's content")
        found = image_format(self.content[:HEAD])
        if found is None:
            raise _not_an_image(self._name, self.content[:HEAD])
        if found == "HEIF":
            require("pillow_heif", extra="heif").register_heif_opener()
        return found

    def _check(self, max_pixels: int) -> tuple[int, int]:
        """Refuse what is too large or too much work; return `cost` and `work`."""
        width, height = self._image.size
        pixels = width * height
        if width < 1 or height < 1:
            raise InputError(f"{self._name}: the image has no pixels ({width} x {height})")
        cost = pixels * BYTES_PER_PIXEL[self.format]
        if pixels > max_pixels or cost > MAX_BYTES:
            most = min(max_pixels, MAX_BYTES // BYTES_PER_PIXEL[self.format])
            raise InputError(_too_large(self._name, most, f"{width} x {height} pixels, "))
        scans = count_scans(self.content) if self.format == "JPEG" else 0
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
            raise InputError(
                f"{self._name}: its pixels are coded in {scans:,} passes, more than are read; "
                "save it again as an ordinary JPEG"
            )
        return cost, pixels * max(1, scans // PASSES)


@contextmanager
def _explain_failure(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `InputError` that names the file."""
    _silence_pillow()
    try:
        yield
    except (InputError, MissingExtraError):
        raise
    except Image.DecompressionBombError:
        raise InputError(_too_large(name, MAX_PIXELS)) from None
    except MemoryError:
        message = f"{name}: decoding it takes more memory than there is; scale it down"
        raise InputError(message) from None
    except UnidentifiedImageError:
        raise InputError(_damaged(name, "its header cannot be read")) from None
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise InputError(_damaged(name, str(error))) from error


def read_content(path: Path) -> bytes:
    """Read an image file's bytes, opening it once; of any other file only the beginning is read.

    Raises:
        InputError: it cannot be opened, is no regular file, empty, or larger than `MAX_FILE`; the
            message begins with the path.
        NotAnImageError: it is no image that is read.
    """
    try:
        with open(_open_regular(path), "rb") as file:
            head = file.read(HEAD)
            if not head:
                message = "the file is empty (0 bytes); expected an image file"
                raise NotAnImageError(f"{path}: {message}", is_video=False)
            if image_format(head) is None:
                raise _not_an_image(str(path), head)
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE:
                message = f"{path}: a file of {size:,} bytes, more than the {MAX_FILE:,} that are"
                raise InputError(f"{message} read; scale the image down")
            return head + file.read()
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {_why_closed(path, error)}") from None


def _open_regular(path: Path) -> int:
    """Open a regular file; of a pipe without a writer, plain opening would wait for ever."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # each where there is one
    number = os.open(path, os.O_RDONLY | flags)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return number
    os.close(number)
    is_folder = path.is_dir()
    what = "a folder" if is_folder else "not a regular file"
    raise InputError(f"{path}: {what}; expected an image file")


def _why_closed(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return "a link to a file that does not exist; restore its target"
        return "no such file; check the path"
    if isinstance(error, PermissionError):
        try:
            path.stat()
        except PermissionError:
            return "no permission to look into its folder"
        except OSError:
            pass
        return "no permission to read it; change its permissions or run as its owner"
    if isinstance(error, IsADirectoryError):  # Windows opens no folders
        return "a folder; expected an image file"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error})"


def _not_an_image(name: str, head: bytes) -> NotAnImageError:
    if video_format(head) is not None:
        return NotAnImageError(f"{name}: a video; expected an image", is_video=True)
    expected = "expected JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP, GIF or PPM"
    return NotAnImageError(f"{name}: not an image in a format that is read; {expected}")


def _too_large(name: str, most: int, found: str = "") -> str:
    return (
        f"{name}: {found}more than the {most:,} pixels that are read; "
        "scale it down or cut out the face first"
    )


def _damaged(name: str, reason: str) -> str:
    return f"{name}: the image is damaged or cut short ({reason}); get it anew"


def _decode_jpeg(content: bytes, mode: str) -> tuple[Pixels | None, str]:
    """Decode without Pillow, and say what is wrong with the data.

    Returns:
        The pixels as they are stored, None where Pillow has to convert the colours or to make what
        it can of corrupt data; and the decoder's complaint.
    """
    if (colours := _TURBO_COLOURS.get(mode)) is None:
        return None, ""
    try:
        pixels = simplejpeg.decode_jpeg(content, colours)
    except ValueError as error:
        return None, "" if _HARMLESS in str(error) else str(error)
    if mode == "CMYK":
        return None, ""
    return (np.repeat(pixels, 3, axis=2) if mode == "L" else pixels), ""


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    """Convert a decoded image of any mode, a strip at a time: copies of all of it would add up."""
    height, width = image.height, image.width
    is_transparent = image.has_transparency_data
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        part = image.crop((0, top, width, bottom))
        if image.mode.startswith("I"):
            part = _from_whole_numbers(part, name)
        elif image.mode == "F":
            part = _from_fractions(part, name)
        elif is_transparent:
            layer = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        rgb[top:bottom] = np.asarray(part.convert("RGB"))
    return rgb


def _from_whole_numbers(image: Image.Image, name: str) -> Image.Image:
    """Grey with 16 bits; Pillow itself would clip it at 255 instead of scaling."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        message = f"{name}: grey values beyond 16 bits; save it with 8 or 16 bits a pixel"
        raise InputError(message)
    return Image.fromarray((values >> 8).astype(np.uint8))


def _from_fractions(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if not (values.min() >= 0 and values.max() <= 1):  # also refuses NaN
        message = f"{name}: floating-point pixels outside [0, 1]; save it with 8 bits a pixel"
        raise InputError(message)
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; unreadable EXIF counts as upright."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the pixels are good; damaged EXIF raises errors of every kind
        return 1
    return orientation if isinstance(orientation, int) else 1


def _silence_pillow() -> None:
    """Ignore Pillow's warnings: what matters of them is an `InputError` here.

    A filter, not ``catch_warnings``: that one is not thread-safe, and images are read in threads.
    """
    known = any(
        action == "ignore" and getattr(module, "pattern", None) == r"PIL\."
        for action, _, _, module, _ in warnings.filters
    )
    if not known:
        warnings.filterwarnings("ignore", module=r"PIL\.")
