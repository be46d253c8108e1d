"""MTCNN, the three small networks that find faces and their five landmarks, in plain PyTorch.

Source: Zhang et al. 2016 (arXiv 1604.02878). Weights: those of the package ``mtcnn`` 1.0 (MIT,
github.com/ipazc/mtcnn), as tensors in ``assets/weights``.
Boxes are rows of ``x1 y1 x2 y2`` in pixels.

All sizes of a picture lie side by side on one canvas, so that the first network runs once: eight
small runs cost more than one large one.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from mfclip.media.pyramid import Pyramid
from mfclip.weights import read_tensors

Array = NDArray[np.float32]

WEIGHTS = "assets/weights/mtcnn.safetensors"

SCALE_STEP = 0.709
"""Side of one level of the picture pyramid over the side of the level above; about 1/sqrt(2)."""

CELL = 12
"""Side of the window that the proposal network looks at, pixels."""

STRIDE = 2
"""Pixels from one window to the next."""

MAX_PATCHES = 512
"""Proposals that are looked at more closely; the strongest are kept, so that time is bounded."""

GRAIN = 16
"""Sides of a canvas are multiples of so many pixels: few shapes, which a network prepares once."""

BLOCK = 256
"""Boxes that are compared with each other at once; memory grows as its square."""


@runtime_checkable
class Networks(Protocol):
    """The three networks in the order they are used; images are RGB, uint8."""

    def propose(
        self, images: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[Float[np.ndarray, "b 4 rows cols"], Float[np.ndarray, "b rows cols"]]:
        """Slide a window over pictures: see `ProposalNet`."""
        ...

    def refine(
        self, patches: UInt8[np.ndarray, "b 24 24 3"]
    ) -> tuple[Float[np.ndarray, "b 4"], Float[np.ndarray, " b"]]:
        """Judge patches: see `RefineNet`."""
        ...

    def place(
        self, patches: UInt8[np.ndarray, "b 48 48 3"]
    ) -> tuple[Float[np.ndarray, "b 4"], Float[np.ndarray, "b 2 5"], Float[np.ndarray, " b"]]:
        """Judge patches and place landmarks: see `OutputNet`."""
        ...


class ProposalNet(nn.Module):
    """Slide a 12 x 12 window, stride 2, over a picture of any size (P-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(3, 10, 3, pool=2), *_stage(10, 16, 3), *_stage(16, 32, 3)
        )
        self.box = nn.Conv2d(32, 4, 1)
        self.face = nn.Conv2d(32, 2, 1)

    def forward(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 4 rows cols"], Float[Tensor, "b rows cols"]]:
        """Return box offsets (parts of the window's side) and the probability of a face."""
        features = self.features(images)
        return self.box(features), self.face(features).softmax(1)[:, 1]


class RefineNet(nn.Module):
    """Judge patches of 24 x 24 pixels (R-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(3, 28, 3, pool=3), *_stage(28, 48, 3, pool=3), *_stage(48, 64, 2)
        )
        self.dense = nn.Sequential(nn.Linear(576, 128), nn.PReLU(128))
        self.box = nn.Linear(128, 4)
        self.face = nn.Linear(128, 2)

    def forward(
        self, patches: Float[Tensor, "b 3 24 24"]
    ) -> tuple[Float[Tensor, "b 4"], Float[Tensor, " b"]]:
        """Return box offsets (parts of the box's side) and the probability of a face."""
        features = self.dense(_flatten(self.features(patches)))
        return self.box(features), self.face(features).softmax(1)[:, 1]


class OutputNet(nn.Module):
    """Judge patches of 48 x 48 pixels and place the five landmarks (O-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(3, 32, 3, pool=3),
            *_stage(32, 64, 3, pool=3),
            *_stage(64, 64, 3, pool=2),
            *_stage(64, 128, 2),
        )
        self.dense = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.box = nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)
        self.face = nn.Linear(256, 2)

    def forward(
        self, patches: Float[Tensor, "b 3 48 48"]
    ) -> tuple[Float[Tensor, "b 4"], Float[Tensor, "b 2 5"], Float[Tensor, " b"]]:
        """Return box offsets, landmarks (x row, y row; parts of the side), face probability."""
        features = self.dense(_flatten(self.features(patches)))
        landmarks = self.landmarks(features).view(-1, 2, 5)
        return self.box(features), landmarks, self.face(features).softmax(1)[:, 1]


class Cascade(NamedTuple):
    """The networks in PyTorch; see `Networks`."""

    proposal: ProposalNet
    refinement: RefineNet
    output: OutputNet

    def propose(self, images: NDArray[np.uint8]) -> tuple[Array, Array]:
        """See `Networks`."""
        offsets, faces = self.proposal(_normalise(images))
        return offsets.numpy(), faces.numpy()

    def refine(self, patches: NDArray[np.uint8]) -> tuple[Array, Array]:
        """See `Networks`."""
        offsets, faces = self.refinement(_normalise(patches))
        return offsets.numpy(), faces.numpy()

    def place(self, patches: NDArray[np.uint8]) -> tuple[Array, Array, Array]:
        """See `Networks`."""
        offsets, landmarks, faces = self.output(_normalise(patches))
        return offsets.numpy(), landmarks.numpy(), faces.numpy()


@cache
def load_cascade() -> Cascade:
    """Build the three networks with the weights that come with this package, once for all."""
    cascade = Cascade(ProposalNet(), RefineNet(), OutputNet())
    with as_file(files("mfclip").joinpath(WEIGHTS)) as path:
        tensors, _ = read_tensors(path)
    for name, network in zip(("proposal", "refine", "output"), cascade, strict=True):
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(own)
        network.eval().requires_grad_(requires_grad=False)
    return cascade


@torch.inference_mode()
def find_faces(
    networks: Networks,
    image: NDArray[np.uint8] | Pyramid,
    *,
    min_face: float,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
) -> tuple[Array, Array, Array]:
    """Run the cascade over one picture.

    Args:
        networks: e.g. from `load_cascade`.
        image: RGB, height x width x 3; or all its sizes, where it is looked at several times.
        min_face: side of the smallest face looked for, pixels; time grows as its inverse square.
        thresholds: probability of a face that each network demands.

    Returns:
        Boxes ``n 4``, landmarks ``n 5 2`` (x, y; left eye in the picture, right eye, nose, left and
        right corner of the mouth) and probabilities ``n``, strongest first.
    """
    pyramid = image if isinstance(image, Pyramid) else Pyramid(image)
    boxes, scores = _propose(networks, pyramid, min_face, thresholds[0])
    boxes = _square(boxes[:MAX_PATCHES])
    if len(boxes):
        offsets, faces = networks.refine(pyramid.patches(boxes, 24))
        boxes, scores = _keep(boxes, offsets, faces, thresholds[1])
        kept = suppress(boxes, scores, 0.7)
        boxes = _square(boxes[kept])
    if not len(boxes):
        return (
            np.zeros((0, 4), np.float32),
            np.zeros((0, 5, 2), np.float32),
            np.zeros(0, np.float32),
        )
    offsets, relative, faces = networks.place(pyramid.patches(boxes, 48))
    landmarks = _place(relative, boxes)[faces > thresholds[2]]
    boxes, scores = _keep(boxes, offsets, faces, thresholds[2])
    kept = suppress(boxes, scores, 0.7, of_smaller=True)
    return boxes[kept], landmarks[kept], scores[kept]


def suppress(
    boxes: Array, scores: Array, limit: float, *, of_smaller: bool = False
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Args:
        boxes: ``n 4``.
        scores: ``n``; of two boxes that overlap, the one that scores higher stays.
        limit: largest overlap that two kept boxes may have, ratio.
        of_smaller: measure overlap against the smaller box rather than the union, so that a box
            inside another goes.

    Returns:
        Rows that stay, highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.zeros(0, np.intp)
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        rows = rows[~_overlap(boxes[kept], boxes[rows], limit, of_smaller).any(0)]
        among = _overlap(boxes[rows], boxes[rows], limit, of_smaller)
        stays = np.ones(len(rows), bool)
        for row in range(len(rows)):
            if stays[row]:
                stays[row + 1 :] &= ~among[row, row + 1 :]
        kept = np.concatenate([kept, rows[stays]])
    return kept


def _overlap(one: Array, other: Array, limit: float, of_smaller: bool) -> NDArray[np.bool_]:
    """Which boxes share more than `limit`, ``rows of one, rows of other``."""
    corner = np.maximum(one[:, None, :2], other[None, :, :2])
    sides = np.maximum(np.minimum(one[:, None, 2:], other[None, :, 2:]) - corner, 0)
    shared = sides[..., 0] * sides[..., 1]
    area, area_other = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other))
    if of_smaller:
        whole = np.minimum(area[:, None], area_other)
    else:
        whole = area[:, None] + area_other - shared
    over: NDArray[np.bool_] = shared > limit * whole
    return over


class _Level(NamedTuple):
    """Where one size of a picture lies on the canvas, pixels."""

    left: int
    top: int
    size: tuple[int, int]
    scale: float


def _lay_out(size: tuple[int, int], scale: float) -> tuple[list[_Level], tuple[int, int]]:
    """Find a place for every size of a picture, and the width and height of the canvas.

    Each goes into the first gap that is left beside or below a larger one, and else below all.
    Windows start at even pixels, and so do the levels.
    """
    levels: list[_Level] = []
    gaps: list[tuple[int, int, int, int]] = []  # left, top, width, height
    width, bottom = 0, 0
    while min(size) * scale >= CELL:
        own = (round(size[0] * scale), round(size[1] * scale))
        wide, high = (side + side % STRIDE for side in own)
        width = width or wide
        fits = (place for place, gap in enumerate(gaps) if gap[2] >= wide and gap[3] >= high)
        if (place := next(fits, None)) is None:
            left, top, room, height = 0, bottom, width, high
            bottom += high
        else:
            left, top, room, height = gaps.pop(place)
        gaps.append((left + wide, top, room - wide, high))
        gaps.append((left, top + high, room, height - high))
        levels.append(_Level(left, top, own, scale))
        scale *= SCALE_STEP
    return levels, (width, bottom)


def _propose(
    networks: Networks, pyramid: Pyramid, min_face: float, threshold: float
) -> tuple[Array, Array]:
    """Boxes from every level of the pyramid, strongest first."""
    levels, size = _lay_out(pyramid.size, CELL / max(min_face, CELL))
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    if levels:
        width, height = (-(-side // GRAIN) * GRAIN for side in size)
        canvas = np.zeros((1, height, width, 3), np.uint8)
        for level in levels:
            wide, high = level.size
            part = canvas[0, level.top : level.top + high, level.left : level.left + wide]
            part[:] = pyramid.scaled(level.size)
        offsets, faces = networks.propose(canvas)
    for level in levels:
        rows, cols = (_windows(level.top, level.size[1]), _windows(level.left, level.size[0]))
        strength = faces[0, rows, cols]
        row, col = np.nonzero(strength > threshold)
        corner = np.stack([col, row, col, row], 1) * STRIDE + np.array([0, 0, CELL, CELL])
        found = corner + offsets[0, :, rows, cols][:, row, col].T * CELL
        found = (found / level.scale).astype(np.float32)
        strong = strength[row, col]
        kept = suppress(found, strong, 0.5)
        boxes.append(found[kept])
        scores.append(strong[kept])
    joined, strengths = np.concatenate(boxes), np.concatenate(scores)
    kept = suppress(joined, strengths, 0.7)
    return joined[kept], strengths[kept]


def _windows(start: int, side: int) -> slice:
    """Windows that lie inside a level along one axis; the last may reach one pixel beyond."""
    first = start // STRIDE
    return slice(first, first + (side + side % STRIDE - CELL) // STRIDE + 1)


def _keep(boxes: Array, offsets: Array, faces: Array, threshold: float) -> tuple[Array, Array]:
    """Move the boxes by what the network says and drop those it takes for no face."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)
    moved = (boxes + offsets * sides).astype(np.float32)
    return moved[faces > threshold], faces[faces > threshold]


def _place(relative: Array, boxes: Array) -> Array:
    """Landmarks as parts of the box -> pixels, ``n 5 2``."""
    sides = boxes[:, None, 2:] - boxes[:, None, :2] + 1
    placed: Array = relative.transpose(0, 2, 1) * sides + boxes[:, None, :2] - 1
    return placed


def _square(boxes: Array) -> Array:
    """Grow the shorter side about the centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _normalise(images: NDArray[np.uint8]) -> Float[Tensor, "b 3 h w"]:
    """Colours last in memory, as they come: convolutions take that twice as fast."""
    pixels = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
    return pixels.sub_(127.5).div_(128)


def _flatten(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
    """Columns, rows, channels: the order the dense layers were trained with."""
    return features.permute(0, 3, 2, 1).flatten(1)


def _stage(in_channels: int, channels: int, kernel: int, pool: int = 0) -> list[nn.Module]:
    stage: list[nn.Module] = [nn.Conv2d(in_channels, channels, kernel), nn.PReLU(channels)]
    if pool:
        stage.append(nn.MaxPool2d(pool, 2, ceil_mode=True))
    return stage
