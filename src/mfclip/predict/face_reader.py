"""Files and arrays -> faces cut out for the model: all about an image that needs no model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from mfclip.errors import InputError, describe_failure
from mfclip.media.images import IMAGE_SUFFIXES, ImageFile, NotAnImageError
from mfclip.media.isolated import open_bounded
from mfclip.media.jpeg import save_as_jpeg
from mfclip.media.transforms import Pixels, prepare_face
from mfclip.media.video import VIDEO_SUFFIXES
from mfclip.predict.faces import Crop, FaceFinder
from mfclip.predict.prediction import Box, Failure, Skipped
from mfclip.predict.quality import check_compression, check_face, check_file

if sys.platform == "win32":
    from pathlib import WindowsPath as SystemPath
else:
    from pathlib import PosixPath as SystemPath

PREVIEW = 1024
"""Longer side of the small copy of an image, pixels."""


class FoundFile(SystemPath):
    """The path of a file that was found in a folder: nobody asked for it by its name."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A file that holds a video, or is named as one; it was not read."""

    path: Path


@dataclass(frozen=True, slots=True)
class Content:
    """A file that does not lie on this disk: in an archive, or at an address.

    Attributes:
        path: as it is named in results.
        read: returns its bytes; called in the thread that decodes them.
    """

    path: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class FoundFace:
    """One face on its way to the model.

    Attributes:
        pixels: RGB uint8, as the model takes it.
        path: of the file; None for an array.
        box: the face in the image, pixels; None for the whole image.
        width: of the image, pixels.
        height: likewise.
        sha256: of the file.
        warnings: reasons to trust its score less.
        void: those of them for which the score means nothing.
        poor: those by which the face is worse than any that bands are measured on.
        preview: small copy of the image; None unless it was asked for.
    """

    pixels: Pixels
    path: str | None
    box: Box | None
    width: int
    height: int
    sha256: str | None
    warnings: tuple[str, ...] = ()
    void: tuple[str, ...] = ()
    poor: tuple[str, ...] = ()
    preview: Pixels | None = field(default=None, repr=False, compare=False)


Input: TypeAlias = str | Path | np.ndarray | ImageFile | Content | Failure
"""A file, an RGB uint8 array (h, w, 3), an image that was read already, a file from elsewhere, or a
failure found earlier, which is passed through."""

Entry: TypeAlias = FoundFace | VideoFile | Skipped | Failure


@dataclass(frozen=True, slots=True)
class FaceReader:
    """Reads images and cuts out their faces; may be used by several threads, and pickled.

    Attributes:
        finder: finds the faces in an image.
        resize: side of the square around a face before the centre crop, pixels.
        image_size: side of the square model input, pixels.
        jpeg_quality: with which all training faces were saved; None if they were not alike.
    """

    finder: FaceFinder
    resize: int
    image_size: int
    jpeg_quality: int | None = None

    def read(self, item: Input, *, preview: bool = False) -> Sequence[Entry]:
        """Return the faces of one input, what else it is, or why there is none.

        Nothing that an input does ends a run over many: whatever is raised becomes a `Failure`.

        Args:
            item: a file is opened once.
            preview: make a small copy of the image for each face (the same one).
        """
        if isinstance(item, Failure):
            return [item]
        path = _path_of(item)
        try:
            if isinstance(item, np.ndarray | ImageFile):
                return self.cut(item, preview=preview)
            if isinstance(item, Content):
                with open_bounded(item.read()) as image:
                    return self.cut(replace(image, path=item.path), preview=preview)
            with open_bounded(Path(path or "")) as image:
                return self.cut(image, preview=preview)
        except NotAnImageError as error:
            return [_sort_out(item, str(path), error)]
        except Exception as error:  # decoders of damaged files raise errors of every kind
            return [Failure(path, describe_failure(error, path))]

    def cut(self, image: ImageFile | np.ndarray, *, preview: bool = False) -> list[FoundFace]:
        """Return the faces of one image, the largest first.

        Raises:
            InputError: there is none, or the array is no RGB image.
        """
        pixels = image.pixels if isinstance(image, ImageFile) else check_pixels(image)
        path, sha256 = None, None
        warnings: tuple[str, ...] = ()
        damage: tuple[str, ...] = ()
        if isinstance(image, ImageFile):
            path, sha256 = image.path, image.sha256
            warnings, damage = check_compression(image), check_file(image)
        small = shrink(pixels) if preview else None
        faces = [self.prepare_crop(crop, pixels) for crop in self.finder.find(pixels)]
        return [
            replace(
                face,
                path=path,
                sha256=sha256,
                warnings=(*damage, *face.warnings, *warnings),
                void=(*damage, *face.void),
                preview=small,
            )
            for face in faces
        ]

    def prepare_crop(self, crop: Crop, image: Pixels) -> FoundFace:
        """Make a face that was cut out of an image ready for the model."""
        face = self.prepare(crop.pixels)
        seen = check_face(face)
        height, width = image.shape[:2]
        return FoundFace(
            face, None, crop.box, width, height, None,
            warnings=(*crop.void, *crop.poor, *crop.warnings, *seen),
            void=crop.void, poor=(*crop.poor, *seen),
        )  # fmt: skip

    def prepare(self, face: Pixels) -> Pixels:
        """Cut and scale a face to the model input, RGB uint8 (image_size, image_size, 3).

        Where all training faces were JPEG files of one quality, the scaled face is saved like
        them, for the model takes the absence of that noise for a forgery.
        """
        if self.jpeg_quality is not None:
            square = prepare_face(face, resize=self.resize, image_size=self.resize)
            face = save_as_jpeg(square, self.jpeg_quality)
        return prepare_face(face, resize=self.resize, image_size=self.image_size)


def check_pixels(pixels: np.ndarray) -> Pixels:
    """Refuse an array that is not an RGB image.

    Raises:
        InputError: other than uint8, (h, w, 3), with at least one pixel.
    """
    shape, channels = pixels.shape, 3
    if pixels.dtype != np.uint8 or len(shape) != channels or shape[2] != channels or not all(shape):
        message = (
            "expected an RGB array of uint8 in [0, 255] with shape (height, width, 3), "
            f"but got {pixels.dtype} with shape {shape}"
        )
        raise InputError(message)
    return pixels


def shrink(pixels: Pixels, side: int = PREVIEW) -> Pixels:
    """Return a copy whose longer side is at most `side` pixels."""
    small = Image.fromarray(pixels)
    small.thumbnail((side, side))
    return np.asarray(small)


def _path_of(item: str | Path | np.ndarray | ImageFile | Content) -> str | None:
    if isinstance(item, np.ndarray):
        return None
    return item.path if isinstance(item, ImageFile | Content) else str(item)


def _sort_out(item: Input, path: str, error: NotAnImageError) -> VideoFile | Skipped | Failure:
    """Say what a file is that holds no image: by its content, and else by its name."""
    suffix = Path(path).suffix.lower()
    if isinstance(item, Content):
        return Failure(path, describe_failure(error, "the image"))
    if error.is_video or suffix in VIDEO_SUFFIXES:
        return VideoFile(Path(path))
    if isinstance(item, FoundFile) and suffix not in IMAGE_SUFFIXES:
        return Skipped(path, "neither an image nor a video")
    return Failure(path, describe_failure(error, path))
