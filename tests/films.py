"""Videos made for tests with PyAV itself, and a face finder for films of bright squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor, nn, ones, stack, zeros_like

from mfclip.errors import InputError
from mfclip.predict.faces import Crop
from mfclip.predict.prediction import Box

Square = tuple[int, int, int, int]
"""Left edge, top edge, side in pixels, brightness from 0 to 255."""


def encode(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    lossless: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write RGB pictures; `times` in milliseconds, 40 apart if omitted; lossless needs ``.mkv``."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream("ffv1" if lossless else "libx264", rate=25)
        stream.pix_fmt = "bgr0" if lossless else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(images):
            if not index:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[index] if times else 40 * index
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw(*squares: Square, size: tuple[int, int] = (96, 256)) -> np.ndarray:
    """A black frame (height, width) with grey squares."""
    frame = np.zeros((*size, 3), np.uint8)
    for left, top, side, grey in squares:
        frame[top : top + side, left : left + side] = grey
    return frame


class Squares:
    """Finds bright squares that do not stand above each other, the largest first."""

    name = "squares"

    def find(self, picture: np.ndarray) -> list[Crop]:
        bright = picture.max(2) > 25
        edges = np.flatnonzero(np.diff(np.pad(bright.any(0), 1).astype(int)))
        crops = []
        for left, right in edges.reshape(-1, 2).tolist():
            rows = np.flatnonzero(bright[:, left:right].any(1))
            box = Box(left, int(rows[0]), right, int(rows[-1]) + 1)
            inner = picture[box.top + 2 : box.bottom - 2, left + 2 : right - 2]
            crops.append(Crop(np.ascontiguousarray(inner), box))
        if not crops:
            raise InputError("no face found")
        return sorted(crops, key=lambda crop: -crop.pixels.size)


class Brightness(nn.Module):
    """Gives the mean brightness of a picture, in [0, 1], as the probability of fake."""

    image_size = 16

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(ones(()))

    def forward(self, images: Tensor) -> Tensor:
        mean = (self.gain * images).mean((1, 2, 3)).clamp(1e-4, 1 - 1e-4)
        return stack([zeros_like(mean), (mean / (1 - mean)).log()], 1)
