"""An image -> the faces in it that are judged: the whole image, or every face found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mfclip.errors import InputError
from mfclip.media.faces import Face, FaceDetector, Runtime, crop_face
from mfclip.predict.prediction import Box
from mfclip.predict.quality import check_pose, check_size

LONG_PICTURE = 1.5
"""Whole images whose sides differ by more than this factor get a warning."""

LYING = 45.0
"""Heads that lean further, degrees, are turned upright by a quarter or half turn."""

CHECK_SIDE = 640
"""Longer side of the copy in which a whole image is searched for a face, pixels: without one it is
looked at five times, each of them as dear as its pixels are many."""

NO_FACE = "no face was found in this image: if it holds none, the score means nothing"


@dataclass(frozen=True, slots=True)
class Crop:
    """One face cut out of an image.

    Attributes:
        pixels: RGB.
        box: the face in the image, pixels; None for the whole image.
        warnings: reasons to trust the score less.
        void: reasons for which the score means nothing.
        poor: reasons by which the face is worse than any that bands are measured on.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    box: Box | None = None
    warnings: tuple[str, ...] = ()
    void: tuple[str, ...] = ()
    poor: tuple[str, ...] = ()


@runtime_checkable
class FaceFinder(Protocol):
    """What finds the faces in an image.

    Attributes:
        name: ``whole`` or ``detected``; recorded with every result, and chooses the bands.
    """

    name: str

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Crop]:
        """Return at least one face. Called from several threads at once.

        Raises:
            InputError: there is none.
        """
        ...


class WholePicture:
    """Takes the whole image as one face; of a long image the middle square is judged.

    Args:
        check: look whether there is a face at all, and turn an image upright whose face lies. It
            is searched in a small copy, and an image with an upright face is not changed.
    """

    name = "whole"

    def __init__(self, *, check: bool = False) -> None:
        self._detector = FaceDetector() if check else None

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Crop]:
        """Return the image itself."""
        void: tuple[str, ...] = ()
        turned: tuple[str, ...] = ()
        if self._detector is not None:
            faces = self._detector.detect(_shrink(picture))
            void = () if faces else (NO_FACE,)
            if faces and (turns := quarter_turns(faces[0])):
                picture = np.ascontiguousarray(np.rot90(picture, turns))
                turned = ("the face lies on its side or head: the image was turned upright",)
        height, width = picture.shape[:2]
        warnings, is_poor = check_size(float(min(height, width)))
        poor, warnings = (warnings, ()) if is_poor else ((), warnings)
        if max(height, width) > LONG_PICTURE * min(height, width):
            shape = f"long image ({width} x {height} pixels)"
            warnings += (f"{shape}: only its middle square was judged",)
        return [Crop(picture, warnings=(*warnings, *turned), void=void, poor=poor)]


class DetectedFaces:
    """Finds every face with the detector that also prepares training data.

    Args:
        margin: how many times wider the view is than the bare face.
        align: turn the face upright; otherwise cut an upright square, of a face that lies one that
            is turned by a quarter or half turn.
        runtime: what finds them, see `mfclip.media.faces.FaceDetector`.
    """

    name = "detected"

    def __init__(
        self, *, margin: float = 1.3, align: bool = True, runtime: Runtime = "torch"
    ) -> None:
        self.margin = margin
        self.align = align
        self._detector = FaceDetector(runtime=runtime)

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Crop]:
        """Return every face, the largest first.

        Raises:
            InputError: no face was found.
        """
        faces = self._detector.detect(picture)
        if not faces:
            raise InputError("no face found; use --whole to judge the whole image as one face")
        return [self._cut(picture, face) for face in faces]

    def _cut(self, picture: UInt8[np.ndarray, "h w 3"], face: Face) -> Crop:
        pixels = crop_face(picture, face, margin=self.margin, align=self.align)
        if not self.align and (turns := quarter_turns(face)):
            pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        small, is_poor = check_size(face.side)
        poor, warnings = (small, ()) if is_poor else ((), small)
        warnings += check_pose(face.yaw)
        return Crop(pixels, _inside(face.box, picture), warnings=warnings, poor=poor)


def _shrink(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return a copy in which a face is seen, and which way up it stands, but costs little."""
    small = Image.fromarray(picture)
    small.thumbnail((CHECK_SIDE, CHECK_SIDE))
    return np.array(small)


def quarter_turns(face: Face) -> int:
    """Return how many quarter turns (as ``np.rot90`` counts them) bring a lying face upright.

    0 for a head that leans less than `LYING` degrees.
    """
    return round(face.roll / 90) % 4 if abs(face.roll) > LYING else 0


def _inside(box: tuple[float, float, float, float], picture: np.ndarray) -> Box:
    height, width = picture.shape[:2]
    left, top, right, bottom = (round(side) for side in box)
    return Box(max(left, 0), max(top, 0), min(right, width), min(bottom, height))
