"""A picture -> the faces in it that are judged: the whole picture, or every face found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mfclip.errors import InputError
from mfclip.media.faces import FaceDetector, crop_face
from mfclip.predict.prediction import Box
from mfclip.predict.quality import check_pose

SMALL_FACE = 80
"""Faces with a side below this many pixels, about a third of the model input, get a warning."""

LONG_PICTURE = 1.5
"""Whole pictures whose sides differ by more than this factor get a warning."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One face cut out of a picture.

    Attributes:
        pixels: RGB.
        box: the face in the picture, pixels; None for the whole picture.
        warnings: reasons to trust the score less.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    box: Box | None = None
    warnings: tuple[str, ...] = ()


@runtime_checkable
class FaceFinder(Protocol):
    """What finds the faces in a picture.

    Attributes:
        name: ``whole`` or ``detected``; recorded with every result.
    """

    name: str

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Crop]:
        """Return at least one face. Called from several threads at once.

        Raises:
            InputError: there is none.
        """
        ...


class WholePicture:
    """Takes the whole picture as one face; of a long picture the middle square is judged."""

    name = "whole"

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Crop]:
        """Return the picture itself."""
        height, width = picture.shape[:2]
        warnings = small_face(float(min(height, width)))
        if max(height, width) > LONG_PICTURE * min(height, width):
            shape = f"long picture ({width} x {height} pixels)"
            warnings += (f"{shape}: only its middle square was judged",)
        return [Crop(picture, warnings=warnings)]


class DetectedFaces:
    """Finds every face with the detector that also prepares training data.

    Args:
        margin: how many times wider the view is than the bare face.
        align: turn the face upright; otherwise cut an upright square.
    """

    name = "detected"

    def __init__(self, *, margin: float = 1.3, align: bool = True) -> None:
        self.margin = margin
        self.align = align
        self._detector = FaceDetector()

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Crop]:
        """Return every face, the largest first.

        Raises:
            InputError: no face was found.
        """
        faces = self._detector.detect(picture)
        if not faces:
            raise InputError("no face found; use --whole to judge the whole picture as one face")
        return [
            Crop(
                crop_face(picture, face, margin=self.margin, align=self.align),
                _inside(face.box, picture),
                small_face(face.side) + check_pose(face.yaw),
            )
            for face in faces
        ]


def small_face(side: float) -> tuple[str, ...]:
    """Return a warning when a face has a side of fewer pixels than `SMALL_FACE`."""
    if side >= SMALL_FACE:
        return ()
    return (f"small face ({side:.0f} pixels): it was enlarged, and its fine traces are missing",)


def _inside(box: tuple[float, float, float, float], picture: np.ndarray) -> Box:
    height, width = picture.shape[:2]
    left, top, right, bottom = (round(side) for side in box)
    return Box(max(left, 0), max(top, 0), min(right, width), min(bottom, height))
