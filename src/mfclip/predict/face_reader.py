"""Files and arrays -> faces cut out for the model: all about an image that needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mfclip.errors import InputError
from mfclip.media.images import ImageFile, open_image
from mfclip.media.jpeg import save_as_jpeg
from mfclip.media.transforms import Pixels, prepare_face
from mfclip.predict.faces import FaceFinder
from mfclip.predict.prediction import Box, Failure
from mfclip.predict.quality import check_compression, check_face

Input: TypeAlias = str | Path | np.ndarray | Failure
"""A file, an RGB uint8 array (h, w, 3), or a failure found earlier, which is passed through."""


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
    """

    pixels: Pixels
    path: str | None
    box: Box | None
    width: int
    height: int
    sha256: str | None
    warnings: tuple[str, ...]


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

    def read(self, item: Input) -> list[FoundFace | Failure]:
        """Return the faces of one input, or why there is none."""
        if isinstance(item, Failure):
            return [item]
        if isinstance(item, np.ndarray):
            try:
                return [*self.cut(item)]
            except InputError as error:
                return [Failure(None, str(error))]
        path = str(item)
        try:
            return [*self.cut(open_image(Path(item)))]
        except (InputError, OSError) as error:
            return [Failure(path, str(error).removeprefix(f"{path}: "))]

    def cut(self, image: ImageFile | np.ndarray) -> list[FoundFace]:
        """Return the faces of one image, the largest first.

        Raises:
            InputError: there is none, or the array is no RGB image.
        """
        shared: tuple[str, ...] = ()
        if isinstance(image, ImageFile):
            pixels, path, sha256 = image.pixels, image.path, image.sha256
            shared = check_compression(image)
        else:
            pixels, path, sha256 = check_pixels(image), None, None
        height, width = pixels.shape[:2]
        faces = []
        for crop in self.finder.find(pixels):
            face = self.prepare(crop.pixels)
            warnings = (*crop.warnings, *check_face(face), *shared)
            faces.append(FoundFace(face, path, crop.box, width, height, sha256, warnings))
        return faces

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
