"""MTCNN, the three small networks that find faces and their five landmarks, in plain PyTorch.

Source: Zhang et al. 2016 (arXiv 1604.02878). Weights: those of the package ``mtcnn`` 1.0 (MIT,
github.com/ipazc/mtcnn), as tensors in ``assets/weights``.
Boxes are rows of ``x1 y1 x2 y2`` in pixels.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mfclip.weights import read_tensors

Array = NDArray[np.float32]

WEIGHTS = "assets/weights/mtcnn.safetensors"

SCALE_STEP = 0.709
"""Side of one level of the picture pyramid over the side of the level above; about 1/sqrt(2)."""

CELL = 12
"""Side of the window that the proposal network looks at, pixels."""

MAX_PATCHES = 512
"""Proposals that are looked at more closely; the strongest are kept, so that time is bounded."""


class Cascade(NamedTuple):
    """The three networks in the order they are used."""

    proposal: ProposalNet
    refine: RefineNet
    output: OutputNet


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


@cache
def load_cascade() -> Cascade:
    """Build the three networks with the weights that come with this package, once for all."""
    cascade = Cascade(ProposalNet(), RefineNet(), OutputNet())
    with as_file(files("mfclip").joinpath(WEIGHTS)) as path:
        tensors, _ = read_tensors(path)
    for name, network in zip(Cascade._fields, cascade, strict=True):
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(own)
        network.eval().requires_grad_(requires_grad=False)
    return cascade


@torch.inference_mode()
def find_faces(
    cascade: Cascade,
    image: NDArray[np.uint8],
    *,
    min_face: float,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
) -> tuple[Array, Array, Array]:
    """Run the cascade over one picture.

    Args:
        cascade: from `load_cascade`.
        image: RGB, height x width x 3.
        min_face: side of the smallest face looked for, pixels; time grows as its inverse square.
        thresholds: probability of a face that each network demands.

    Returns:
        Boxes ``n 4``, landmarks ``n 5 2`` (x, y; left eye in the picture, right eye, nose, left and
        right corner of the mouth) and probabilities ``n``, strongest first.
    """
    picture = Image.fromarray(image)
    boxes, scores = _propose(cascade.proposal, picture, min_face, thresholds[0])
    boxes = _square(boxes[:MAX_PATCHES])
    if len(boxes):
        offsets, faces = cascade.refine(_patches(picture, boxes, 24))
        boxes, scores = _keep(boxes, offsets, faces, thresholds[1])
        kept = suppress(boxes, scores, 0.7)
        boxes = _square(boxes[kept])
    if not len(boxes):
        return (
            np.zeros((0, 4), np.float32),
            np.zeros((0, 5, 2), np.float32),
            np.zeros(0, np.float32),
        )
    offsets, relative, faces = cascade.output(_patches(picture, boxes, 48))
    landmarks = _place(relative.numpy(), boxes)[faces.numpy() > thresholds[2]]
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
    left, top, right, bottom = np.ascontiguousarray(boxes.T)  # columns: quicker than rows of two
    area = (right - left) * (bottom - top)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        width = np.minimum(right[first], right[rest]) - np.maximum(left[first], left[rest])
        height = np.minimum(bottom[first], bottom[rest]) - np.maximum(top[first], top[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        if of_smaller:
            whole = np.minimum(area[first], area[rest])
        else:
            whole = area[first] + area[rest] - shared
        order = rest[shared <= limit * whole]
    return np.array(kept, np.intp)


def _propose(
    network: ProposalNet, picture: Image.Image, min_face: float, threshold: float
) -> tuple[Array, Array]:
    """Boxes from every level of the pyramid, strongest first."""
    width, height = picture.size
    scale = CELL / max(min_face, CELL)
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    while min(width, height) * scale >= CELL:
        size = (round(width * scale), round(height * scale))
        level = picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        offsets, faces = network(_normalise(np.asarray(level)[None]))
        rows, cols = torch.where(faces[0] > threshold)
        corner = torch.stack([cols, rows, cols, rows], 1) * 2 + torch.tensor([0, 0, CELL, CELL])
        found = (corner + offsets[0, :, rows, cols].T * CELL).numpy() / np.float32(scale)
        strength = faces[0, rows, cols].numpy()
        kept = suppress(found, strength, 0.5)
        boxes.append(found[kept])
        scores.append(strength[kept])
        scale *= SCALE_STEP
    joined, strengths = np.concatenate(boxes), np.concatenate(scores)
    kept = suppress(joined, strengths, 0.7)
    return joined[kept], strengths[kept]


def _keep(boxes: Array, offsets: Tensor, faces: Tensor, threshold: float) -> tuple[Array, Array]:
    """Move the boxes by what the network says and drop those it takes for no face."""
    scores = faces.numpy()
    sides = np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)
    moved = (boxes + offsets.numpy() * sides).astype(np.float32)
    return moved[scores > threshold], scores[scores > threshold]


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


def _patches(picture: Image.Image, boxes: Array, side: int) -> Float[Tensor, "b 3 side side"]:
    """Cut the boxes out, black beyond the border, and bring them to one size."""
    corners = (
        np.stack([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).reshape(-1, 4).astype(int)
    )
    size = (side, side)
    strip = Image.new("RGB", (side, side * len(corners)))  # one copy out of Pillow, not one each
    for number, box in enumerate(corners.tolist()):
        patch = picture.crop(tuple(box))
        patch = patch.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        strip.paste(patch, (0, side * number))
    return _normalise(np.asarray(strip).reshape(-1, side, side, 3))


def _normalise(images: NDArray[np.uint8]) -> Float[Tensor, "b 3 h w"]:
    return (torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() - 127.5) / 128


def _flatten(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
    """Columns, rows, channels: the order the dense layers were trained with."""
    return features.permute(0, 3, 2, 1).flatten(1)


def _stage(in_channels: int, channels: int, kernel: int, pool: int = 0) -> list[nn.Module]:
    stage: list[nn.Module] = [nn.Conv2d(in_channels, channels, kernel), nn.PReLU(channels)]
    if pool:
        stage.append(nn.MaxPool2d(pool, 2, ceil_mode=True))
    return stage
