"""The pictures of a report: what was judged, what the model saw, what raised its score, noise."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import nn

from mfclip.media.transforms import Pixels
from mfclip.model.srm import TRUNCATION, noise_residual
from mfclip.predict.heat_map import heat_map, overlay
from mfclip.predict.prediction import Box, Prediction
from mfclip.report.wording import Words

Role: TypeAlias = Literal["picture", "seen", "heat", "patch", "noise", "glance"]
"""What a picture shows: the file, the model input, the heat map, the richest patch, its noise, or
the model input small."""

GLANCE = 192
"""Side of the copy of each face in the overview, pixels."""

LONGEST = 960
"""Longer side of the copy of each picture, pixels."""

MOMENT = 432
"""Longer side of the copy of a video's frame, pixels."""

QUALITY = 90
"""Of JPEG."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A frame drawn in a picture.

    Attributes:
        box: what it frames, in the pixels of the `View`.
        label: short text at its corner, a face's number; empty for none.
        name: what a screen reader says; empty where the caption says it.
        target: anchor of the face it leads to; empty for none.
    """

    box: Box
    label: str = ""
    name: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One picture.

    Attributes:
        role: what it shows.
        title: its name.
        caption: what it means.
        data: the encoded picture.
        kind: ``jpeg``, or ``png`` where nothing may be lost.
        size: width and height in the pixels that `marks` are given in.
        marks: what is framed in it.
    """

    role: Role
    title: str
    caption: str
    data: bytes
    kind: Literal["jpeg", "png"]
    size: tuple[int, int]
    marks: tuple[Mark, ...] = ()

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        return to_url(self.data, self.kind)


def show_picture(
    picture: Pixels,
    size: tuple[int, int],
    marks: Sequence[Mark],
    *,
    title: str,
    caption: str,
    longest: int = LONGEST,
) -> View:
    """Show a picture or a frame, small, with the faces in it framed.

    Args:
        picture: RGB, of any size.
        size: width and height of the original, in whose pixels the marks are.
        marks: the faces.
        title: name of the file, or of the moment.
        caption: beneath it.
        longest: longer side of the copy, pixels.
    """
    small = Image.fromarray(picture)
    small.thumbnail((longest, longest))
    return View("picture", title, caption, encode(np.asarray(small)), "jpeg", size, tuple(marks))


def list_evidence(prediction: Prediction, words: Words, heat: Pixels | None = None) -> list[View]:
    """Return the model input, the heat map, the richest patch and its noise.

    Args:
        prediction: with `pixels`; without them there is nothing to show.
        words: of the report.
        heat: the face with its heat map laid over it, from `draw_heat`.
    """
    pixels, box = prediction.pixels, prediction.patch
    if pixels is None:
        return []
    side = (prediction.image_size, prediction.image_size)
    marks = (Mark(box),) if box else ()
    caption = words("view.seen_patch") if box else ""
    views = [View("seen", words("view.seen"), caption, encode(pixels), "jpeg", side, marks)]
    if heat is not None:
        texts = words("view.heat"), words("view.heat_means")
        views.append(View("heat", *texts, encode(heat), "jpeg", side))
    if box:
        patch, size = pixels[box.top : box.bottom, box.left : box.right], (box.width, box.height)
        noise = encode(noise_picture(patch), lossless=True)
        texts = words("view.patch"), words("view.patch_means")
        views.append(View("patch", *texts, encode(patch), "jpeg", size))
        texts = words("view.noise"), words("view.noise_means")
        views.append(View("noise", *texts, noise, "png", size))
    return views


def show_glance(prediction: Prediction, name: str) -> View | None:
    """Show the model input small; None if the pixels were not kept."""
    if prediction.pixels is None:
        return None
    small = Image.fromarray(prediction.pixels)
    small.thumbnail((GLANCE, GLANCE))
    return View("glance", name, "", encode(np.asarray(small)), "jpeg", small.size)


def draw_heat(detector: nn.Module, pixels: Pixels) -> Pixels:
    """Lay the heat map over a model input, RGB uint8; takes some ten times as long as judging."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
    place = next(detector.parameters()).device
    return overlay(pixels, heat_map(detector, images.to(place))[0])


def noise_picture(patch: Pixels) -> Pixels:
    """Show the SRM noise of a patch: grey is none, black and white the strongest kept.

    Args:
        patch: RGB, uint8 (p, p, 3).

    Returns:
        Grey as RGB: the mean of the three residuals, -3..3 stretched to 0..255.
    """
    planes = torch.from_numpy(np.ascontiguousarray(patch)).permute(2, 0, 1)[None].float() / 255
    noise = noise_residual(planes)[0].mean(0).numpy()
    grey = np.rint((noise / TRUNCATION + 1) * 127.5).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def judged_area(prediction: Prediction, model: Mapping[str, Any]) -> Box:
    """Return the part of a whole picture that the model input shows, in the picture's pixels."""
    side = min(prediction.width, prediction.height)
    side = round(side * prediction.image_size / int(model.get("resize", prediction.image_size)))
    left, top = (prediction.width - side) // 2, (prediction.height - side) // 2
    return Box(left, top, left + side, top + side)


def encode(pixels: Pixels, *, lossless: bool = False) -> bytes:
    """Return a picture as JPEG, or as grey PNG where it must be without loss."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if lossless:
        image.convert("L").save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def to_url(data: bytes, kind: str) -> str:
    """Return an encoded picture as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
