"""A picture in the sizes in which faces are looked for, each made once, when first asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

GAP = 2
"""Pixels, at least, that become one along each axis after blocks of pixels were averaged: what is
made from those means looks as if it was made from the picture itself."""

LEAST = 320
"""Longer side down to which a picture is halved before other sizes are made of it, pixels. Smaller
ones would be quicker by little, and move boxes that are found with many others like them."""

TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


class Halved(NamedTuple):
    """A picture that was halved several times.

    Attributes:
        image: its pixels; of an odd side, the last one stands for what is left.
        left: where the picture begins in it, pixels; not 0 where that last one came first.
        top: likewise.
        scale: its pixels for one of the picture.
    """

    image: Image.Image
    left: float
    top: float
    scale: float


class Pyramid:
    """One picture in all sizes.

    Args:
        image: RGB, height x width x 3, uint8.
    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._halved = [Image.fromarray(image)]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self._halved[0].size

    def halved(self, times: int) -> Halved:
        """Return the picture halved so many times; each of its pixels is a mean."""
        while len(self._halved) <= times:
            self._halved.append(self._halved[-1].reduce(2))
        return Halved(self._halved[times], 0, 0, 0.5**times)

    def turned(self, turns: int) -> Pyramid:
        """Return the picture turned by quarters, as ``np.rot90`` counts them."""
        return _Turned(self, turns) if turns else self

    def scaled(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the picture in another size, at most its own.

        Args:
            size: width and height, pixels.

        Returns:
            RGB, height x width x 3.
        """
        width, height = self.size
        image, left, top, scale = self.halved(self._halvings(width / size[0]))
        box = (left, top, left + width * scale, top + height * scale)
        return np.asarray(image.resize(size, Image.Resampling.BOX, box=box, reducing_gap=GAP))

    def patches(self, boxes: NDArray[np.float32], side: int) -> UInt8[np.ndarray, "n side side 3"]:
        """Cut squares out, black beyond the border, and bring them to one size.

        Args:
            boxes: ``n 4``, left, top, right, bottom, pixels; widened to whole ones.
            side: of a patch, pixels.
        """
        reductions = (boxes[:, 2] - boxes[:, 0]) / side
        times = [self._halvings(reduction) for reduction in reductions.tolist()]
        sources = {count: self.halved(count) for count in set(times)}
        scales = np.array([sources[count].scale for count in times])[:, None]
        origins = np.array([(sources[count].left, sources[count].top) for count in times])
        whole = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1)
        places = whole * scales + np.tile(origins, 2)
        corners = np.concatenate([np.floor(places[:, :2]), np.ceil(places[:, 2:])], 1).astype(int)
        inside = places - np.tile(corners[:, :2], 2)
        strip = Image.new("RGB", (side, side * len(boxes)))  # one copy out of Pillow, not one each
        rows = zip(times, corners.tolist(), inside.tolist(), strict=True)
        for number, (count, corner, box) in enumerate(rows):
            patch = (
                sources[count]
                .image.crop(corner)
                .resize((side, side), Image.Resampling.BILINEAR, box=box, reducing_gap=GAP)
            )
            strip.paste(patch, (0, side * number))
        return np.asarray(strip).reshape(-1, side, side, 3)

    def _halvings(self, reduction: float) -> int:
        """How often the picture may be halved before a part of it is reduced by so much."""
        most = min(reduction / GAP, max(self.size) / LEAST)
        return max(0, int(most).bit_length() - 1)


class _Turned(Pyramid):
    """The same sizes, turned: turning a small picture costs less than making it small again."""

    def __init__(self, upright: Pyramid, turns: int) -> None:
        self._upright, self._turns = upright, turns
        self._made: dict[int, Halved] = {}

    @property
    def size(self) -> tuple[int, int]:
        width, height = self._upright.size
        return (height, width) if self._turns % 2 else (width, height)

    def halved(self, times: int) -> Halved:
        if times not in self._made:
            image, _, _, scale = self._upright.halved(times)
            width, height = self._upright.size
            rest_x, rest_y = image.width - width * scale, image.height - height * scale
            left = (0, 0, rest_x, rest_y)[self._turns]
            top = (0, rest_x, rest_y, 0)[self._turns]
            how = TURNS[self._turns]
            turned = image if how is None else image.transpose(how)
            self._made[times] = Halved(turned, left, top, scale)
        return self._made[times]
