"""The pictures of one face on the report page: what was judged, what the model saw, its noise."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from mfclip.card import Bands
from mfclip.media.transforms import Pixels
from mfclip.model.srm import TRUNCATION, noise_residual
from mfclip.predict.heat_map import heat_map, overlay
from mfclip.predict.prediction import Box, Prediction

GLANCE = 192
"""Side of the copy of each face in the overview, pixels."""

THUMBNAIL = 432
"""Longer side of the copy of each picture, pixels."""


@dataclass(frozen=True, slots=True)
class View:
    """One picture of a report.

    Attributes:
        data: the encoded picture.
        kind: ``jpeg``, or ``png`` where nothing may be lost.
        size: width and height in the pixels that `frame` is given in.
        caption: beneath it, and its alternative text.
        frame: what is framed in it.
        crisp: do not smooth its pixels.
    """

    data: bytes
    kind: str
    size: tuple[int, int]
    caption: str
    frame: Box | None = None
    crisp: bool = False


def list_views(
    prediction: Prediction, model: Mapping[str, Any], heat: Pixels | None = None
) -> list[View]:
    """Return the picture, the model input, the heat map, the richest patch and its noise.

    Args:
        prediction: with `pixels`; without them there is only the picture.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        heat: the face with its heat map laid over it, from `draw_heat`.
    """
    views = []
    if (small := _picture(prediction)) is not None:
        area = prediction.face or _judged_area(prediction, model)
        framed = "the face found in it" if prediction.face else "what was judged"
        size, caption = (prediction.width, prediction.height), f"The picture; the frame is {framed}"
        views.append(View(encode(small), "jpeg", size, caption, area))
    if (pixels := prediction.pixels) is None:
        return views
    size = (prediction.image_size, prediction.image_size)
    seen = "What the model saw" + ("; the frame is its richest patch" * bool(prediction.patch))
    views.append(View(encode(pixels), "jpeg", size, seen, prediction.patch))
    if heat is not None:
        views.append(View(encode(heat), "jpeg", size, "Heat map: bright raised the score most"))
    if box := prediction.patch:
        patch = pixels[box.top : box.bottom, box.left : box.right]
        size = (box.width, box.height)
        noise = encode(noise_picture(patch), lossless=True)
        views += [
            View(encode(patch), "jpeg", size, "Richest patch, enlarged", crisp=True),
            View(noise, "png", size, "Its noise (SRM), stretched for viewing", crisp=True),
        ]
    return views


def draw_heat(detector: nn.Module, pixels: Pixels) -> Pixels:
    """Lay the heat map over a model input, RGB uint8; takes some ten times as long as judging."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
    place = next(detector.parameters()).device
    return overlay(pixels, heat_map(detector, images.to(place))[0])


def show_views(prediction: Prediction, model: Mapping[str, Any], heat: Pixels | None = None) -> str:
    """Show what `list_views` returns, as HTML."""
    return "".join(
        show_figure(to_url(v.data, v.kind), v.size, v.frame, v.caption, crisp=v.crisp)
        for v in list_views(prediction, model, heat)
    )


def show_scale(score: float, bands: Bands) -> str:
    """Draw the bands of the verdict as a scale from 0 to 1 with the score on it, as HTML."""
    low, high = 100 * bands.real_below, 100 * min(bands.fake_from, 1.0)
    middle = (
        f'<i class="uncertain" style="left:{low:.1f}%;width:{high - low:.1f}%">uncertain</i>'
        if bands.allow_uncertain
        else ""
    )
    spoken = f"score {score:.2f} on a scale from 0 to 1; real below {bands.real_below:.2f}, "
    return (
        f'<div class="scale" role="img" aria-label="{spoken}fake from {bands.fake_from:.2f}">'
        f'<i class="real" style="left:0;width:{low:.1f}%">real</i>{middle}'
        f'<i class="fake" style="left:{high:.1f}%;width:{100 - high:.1f}%">fake</i>'
        f'<b style="left:{100 * score:.1f}%"></b></div>'
    )


def show_thumbnail(prediction: Prediction, name: str) -> str:
    """Show the model input small, as HTML; nothing if the pixels were not kept."""
    if prediction.pixels is None:
        return ""
    small = Image.fromarray(prediction.pixels)
    small.thumbnail((GLANCE, GLANCE))
    source, alt = embed(np.asarray(small)), escape(name)
    return f'<img src="{source}" width="{GLANCE}" height="{GLANCE}" alt="{alt}">'


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


def _picture(prediction: Prediction) -> Pixels | None:
    """Return a small copy of the whole image; None if it was not kept."""
    if prediction.preview is None:
        return None
    small = Image.fromarray(prediction.preview)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(small)


def _judged_area(prediction: Prediction, model: Mapping[str, Any]) -> Box:
    """Return the part of a whole picture that the model input shows, in the picture's pixels."""
    side = min(prediction.width, prediction.height)
    side = round(side * prediction.image_size / int(model.get("resize", prediction.image_size)))
    left, top = (prediction.width - side) // 2, (prediction.height - side) // 2
    return Box(left, top, left + side, top + side)


def embed(pixels: Pixels, *, lossless: bool = False) -> str:
    """Return a picture as a data URL: JPEG, or grey PNG where it must be without loss."""
    return to_url(encode(pixels, lossless=lossless), "png" if lossless else "jpeg")


def encode(pixels: Pixels, *, lossless: bool = False) -> bytes:
    """Return a picture as JPEG, or as grey PNG where it must be without loss."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if lossless:
        image.convert("L").save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def to_url(data: bytes, kind: str) -> str:
    """Return an encoded picture as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def show_figure(
    source: str, size: tuple[int, int], frame: Box | None, caption: str, *, crisp: bool = False
) -> str:
    """Return a figure of HTML.

    Args:
        source: the picture, from `embed`.
        size: width and height, in the pixels that `frame` is given in.
        frame: what is framed in the picture.
        caption: beneath it, and its alternative text.
        crisp: do not smooth the pixels.
    """
    width, height = size
    mark = ""
    if frame:
        left, top = 100 * frame.left / width, 100 * frame.top / height
        mark = (
            f'<span style="left:{left:.2f}%;top:{top:.2f}%;width:{100 * frame.width / width:.2f}%;'
            f'height:{100 * frame.height / height:.2f}%"></span>'
        )
    style = ' class="crisp"' if crisp else ""
    return (
        f'<figure><span class="frame"><img{style} src="{source}" width="{width}" '
        f'height="{height}" alt="{escape(caption)}">{mark}</span>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
