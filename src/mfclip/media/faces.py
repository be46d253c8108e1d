"""Find faces in a picture and cut them out, aligned: the one face step of training and of use.

Crops follow the field's habit (DeepfakeBench, Apache-2.0, ``preprocess.py``): five landmarks are
brought to the template of ArcFace by rotation, scale and shift only, then the view is widened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mfclip.errors import InputError
from mfclip.media.mtcnn import Networks, find_faces, load_cascade
from mfclip.media.pyramid import Pyramid

Point = tuple[float, float]

Runtime: TypeAlias = Literal["torch", "openvino"]
"""What computes the networks that find faces."""

TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Landmarks of the mean face in a square of 112 pixels (insightface's ``arcface_src``, MIT)."""

NOSE_DEPTH = 0.55
"""How far the tip of the nose stands before the eyes, in distances between the eyes (anatomy)."""


CERTAIN = 0.95
"""Confidence of a face above which an image is not looked at again, turned or for smaller ones."""

SURE = 0.99
"""The same for each further look: a lying face is found upright in its hair with up to 0.97."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face in a picture; positions in pixels from the upper left corner.

    Attributes:
        box: left, top, right, bottom; may reach beyond the picture.
        landmarks: left and right eye, tip of the nose, left and right corner of the mouth, as seen
            in the picture with the head upright; each x, y.
        confidence: probability that it is a face, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[Point, Point, Point, Point, Point]
    confidence: float

    @property
    def side(self) -> float:
        """Longer side of the box, pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)

    @property
    def roll(self) -> float:
        """How far the head leans clockwise in the picture, degrees, -180 to 180."""
        (left_x, left_y), (right_x, right_y) = self.landmarks[:2]
        return math.degrees(math.atan2(right_y - left_y, right_x - left_x))

    @property
    def yaw(self) -> float:
        """How far the face is turned to the picture's right, degrees, -90 to 90; a rough estimate.

        From the shift of the nose between the eyes, with `NOSE_DEPTH` for everybody.
        """
        eyes = np.array(self.landmarks[1]) - np.array(self.landmarks[0])
        middle = (np.array(self.landmarks[1]) + np.array(self.landmarks[0])) / 2
        shift = float((np.array(self.landmarks[2]) - middle) @ eyes)
        return math.degrees(math.atan2(shift, NOSE_DEPTH * float(eyes @ eyes)))


class FaceDetector:
    """Find faces with MTCNN; may be shared by threads, and pickled to other processes.

    Args:
        smallest: side of the smallest face looked for, as a part of the picture's longer side;
            never under 20 pixels. Halving it takes about twice as long.
        confidence: probability of a face that is demanded, 0 to 1.
        retry: where no face is found with `CERTAIN` confidence, look for smaller ones, then in the
            picture turned by 90, 270 and 180 degrees, and take the look with the surest face. A
            picture without a face takes some eight times as long.
        runtime: ``torch``, or ``openvino``, which finds the same faces in half the time.

    Raises:
        MissingExtraError: openvino is asked for, and not installed.
    """

    def __init__(
        self,
        *,
        smallest: float = 0.05,
        confidence: float = 0.8,
        retry: bool = True,
        runtime: Runtime = "torch",
    ) -> None:
        self.smallest = smallest
        self.confidence = confidence
        self.retry = retry
        self.runtime = runtime
        self._networks()  # what is missing is told now

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of one picture.

        Args:
            image: RGB, height x width x 3, uint8.

        Returns:
            Faces, largest first; empty if there is none.

        Raises:
            InputError: the array is no such picture.
        """
        check_image(image)
        best: list[Face] = []
        enough = CERTAIN
        pyramid = Pyramid(image)
        for smallest, turns in self._passes():
            faces = self._look(pyramid.turned(turns), smallest)
            if _certainty(faces) > _certainty(best):
                best = [_turn_back(face, turns, image) for face in faces]
            if _certainty(best) >= enough:
                break
            enough = SURE
        return sorted(best, key=lambda face: -face.side)

    def _networks(self) -> Networks:
        """Return those of this process: what is compiled cannot be sent to another one."""
        if self.runtime == "torch":
            return load_cascade()
        from mfclip.media.mtcnn_openvino import load_openvino_cascade  # noqa: PLC0415 - optional

        return load_openvino_cascade()

    def _passes(self) -> list[tuple[float, int]]:
        """Smallest face and quarter turns of each look at the picture."""
        first = (self.smallest, 0)
        if not self.retry:
            return [first]
        return [first, (self.smallest / 2.5, 0), *((self.smallest, turns) for turns in (1, 3, 2))]

    def _look(self, pyramid: Pyramid, smallest: float) -> list[Face]:
        found = find_faces(
            self._networks(),
            pyramid,
            min_face=max(20.0, smallest * max(pyramid.size)),
            thresholds=(0.6, 0.7, self.confidence),
        )
        rows = zip(*(array.tolist() for array in found), strict=True)
        return [_face(box, points, score) for box, points, score in rows]


def crop_face(
    image: NDArray[np.uint8],
    face: Face,
    *,
    size: int = 256,
    margin: float = 1.3,
    align: bool = True,
) -> NDArray[np.uint8]:
    """Cut one face out, upright and of one size, in a single antialiased resampling.

    Bicubic samples are taken on a grid k times finer than the crop and averaged k x k, where k is
    the reduction rounded up; beyond the picture its border is repeated.

    Args:
        image: RGB, height x width x 3, uint8.
        face: one of `FaceDetector.detect`.
        size: side of the crop, pixels.
        margin: how many times wider the view is than the template (`align`) or the box.
        align: bring the five landmarks to `TEMPLATE`; otherwise take an upright square about the
            middle of the box.

    Returns:
        RGB, size x size x 3, uint8.

    Raises:
        InputError: the array is no such picture, or the landmarks lie in one point.
    """
    check_image(image)
    matrix = crop_matrix(face, size=size, margin=margin, align=align)
    reduction = math.hypot(matrix[0, 0], matrix[1, 0])
    if not 0 < reduction < math.inf:
        raise InputError("the landmarks of this face lie in one point; it cannot be cut out")
    return _resample(image, matrix, size, max(1, math.ceil(reduction - 1e-6)))


def crop_matrix(face: Face, *, size: int, margin: float, align: bool) -> NDArray[np.float64]:
    """Map of positions in the crop to positions in the picture; see `crop_face` and `alignment`."""
    return alignment(face, size=size, margin=margin) if align else _square(face, size, margin)


def place_in_crop(
    face: Face, *, margin: float = 1.3, align: bool = True
) -> tuple[tuple[float, float], ...]:
    """Landmarks of a face in its crop, x and y as shares of the crop's side."""
    matrix = crop_matrix(face, size=1, margin=margin, align=align)
    points = np.array(face.landmarks) - matrix[:, 2]
    places = np.linalg.solve(matrix[:, :2], points.T).T
    return tuple((float(x), float(y)) for x, y in places)


def alignment(face: Face, *, size: int, margin: float) -> NDArray[np.float64]:
    """Similarity that takes positions in the crop to positions in the picture.

    Least squares over the five landmarks (Umeyama 1991, without reflection).

    Args:
        face: the face to be cut out.
        size: side of the crop, pixels.
        margin: as in `crop_face`.

    Returns:
        ``2 3``: picture = matrix @ (x, y, 1), pixels; corners of the crop are 0 and `size`.
    """
    template = ((np.array(TEMPLATE) / 112 - 0.5) / margin + 0.5) * size
    crop, picture = template @ [1, 1j], np.array(face.landmarks) @ [1, 1j]
    # a similarity of the plane is one complex factor and one complex shift
    centred = crop - crop.mean()
    factor = np.vdot(centred, picture - picture.mean()) / np.vdot(centred, centred)
    shift = picture.mean() - factor * crop.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def check_image(image: NDArray[Any]) -> None:
    """Demand a uint8 RGB picture of height x width x 3.

    Raises:
        InputError: it is something else.
    """
    if image.shape[2:] != (3,) or image.dtype != np.uint8 or 0 in image.shape:
        message = (
            "expected an RGB picture as uint8 of height x width x 3, "
            f"but got {image.dtype} of {' x '.join(map(str, image.shape))}"
        )
        raise InputError(message)


def _face(box: list[float], points: list[list[float]], score: float) -> Face:
    left, top, right, bottom = box
    one, two, three, four, five = ((x, y) for x, y in points)
    return Face((left, top, right, bottom), (one, two, three, four, five), score)


def _certainty(faces: list[Face]) -> float:
    return max((face.confidence for face in faces), default=0.0)


def _turn_back(face: Face, turns: int, image: NDArray[np.uint8]) -> Face:
    """Take positions in ``np.rot90(image, turns)`` to positions in `image`."""
    points = np.array([face.box[:2], face.box[2:], *face.landmarks])
    for turn in reversed(range(turns)):
        width = image.shape[1 - turn % 2]
        points = np.stack([width - points[:, 1], points[:, 0]], 1)
    box = [*points[:2].min(0).tolist(), *points[:2].max(0).tolist()]
    return _face(box, points[2:].tolist(), face.confidence)


def _square(face: Face, size: int, margin: float) -> NDArray[np.float64]:
    left, top, right, bottom = face.box
    side = margin * face.side
    corner = ((left + right - side) / 2, (top + bottom - side) / 2)
    return np.array([[side / size, 0, corner[0]], [0, side / size, corner[1]]])


def _resample(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int, fineness: int
) -> NDArray[np.uint8]:
    # only the part of the picture that is looked at becomes float; 4 pixels feed the kernel
    corners = np.array([[x, y, 1] for x in (0, size) for y in (0, size)]) @ matrix.T
    limits = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(0)).astype(int) - 4, 0, limits - 1)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 4, low + 1, limits)
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]].transpose(2, 0, 1))
    grid = torch.from_numpy(_grid(matrix, low, high - low, size, fineness))[None]
    pixels = torch.from_numpy(part).float()[None]
    sampled = functional.grid_sample(
        pixels, grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    crop = functional.avg_pool2d(sampled, fineness)[0].permute(1, 2, 0)
    rounded: NDArray[np.uint8] = crop.clamp(0, 255).round().byte().numpy()
    return np.ascontiguousarray(rounded)


def _grid(
    matrix: NDArray[np.float64],
    low: NDArray[np.int_],
    sides: NDArray[np.int_],
    size: int,
    fineness: int,
) -> NDArray[np.float32]:
    """Places of the fine samples in the part of the picture: -1 to 1, ``rows columns 2``."""
    steps = (np.arange(size * fineness) + 0.5) / fineness
    grid = np.empty((len(steps), len(steps), 2), np.float32)
    for axis in range(2):
        # the map is affine: one term of the column, one of the row
        of_column, of_row, shift = matrix[axis] * 2 / sides[axis]
        start = shift - 2 * low[axis] / sides[axis] - 1
        np.add(steps * of_column, (steps * of_row + start)[:, None], out=grid[..., axis])
    return grid
