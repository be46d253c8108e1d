"""The pictures of one face on the report page: what was judged, what the model saw, its noise."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mfclip.data.images import read_image
from mfclip.data.transforms import Pixels
from mfclip.errors import InputError
from mfclip.model.srm import TRUNCATION, noise_residual
from mfclip.predict.prediction import Box, Prediction
from mfclip.predict.predictor import hash_file

GLANCE = 192
"""Side of the copy of each face in the overview, pixels."""

THUMBNAIL = 432
"""Longer side of the copy of each picture, pixels."""


def show_views(prediction: Prediction, model: Mapping[str, Any]) -> str:
    """Show the picture, the model input, its richest patch and that patch's noise, as HTML.

    Args:
        prediction: with `pixels`; without them only the picture is shown.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
    """
    views = []
    if picture := _picture(prediction):
        area = prediction.face or _judged_area(prediction, model)
        framed = "the face found in it" if prediction.face else "what was judged"
        views.append(show_figure(*picture, area, f"The picture; the frame is {framed}"))
    if (pixels := prediction.pixels) is not None:
        size = (prediction.image_size, prediction.image_size)
        seen = "What the model saw" + ("; the frame is its richest patch" * bool(prediction.patch))
        views.append(show_figure(embed(pixels), size, prediction.patch, seen))
    if pixels is not None and (box := prediction.patch):
        patch = pixels[box.top : box.bottom, box.left : box.right]
        shown = (box.width, box.height)
        views.append(show_figure(embed(patch), shown, None, "Richest patch, enlarged", crisp=True))
        views.append(
            show_figure(
                embed(noise_picture(patch), lossless=True),
                shown,
                None,
                "Its noise (SRM), stretched for viewing",
                crisp=True,
            )
        )
    return "".join(views)


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


def _picture(prediction: Prediction) -> tuple[str, tuple[int, int]] | None:
    """Return a small copy of the whole picture, and the picture's width and height."""
    if prediction.path is None:
        return None
    try:
        if hash_file(Path(prediction.path)) != prediction.sha256:
            return None  # changed since it was judged: it must not stand beside this score
        small = Image.fromarray(read_image(Path(prediction.path)))
    except (InputError, OSError):
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return embed(np.asarray(small)), (prediction.width, prediction.height)


def _judged_area(prediction: Prediction, model: Mapping[str, Any]) -> Box:
    """Return the part of a whole picture that the model input shows, in the picture's pixels."""
    side = min(prediction.width, prediction.height)
    side = round(side * prediction.image_size / int(model.get("resize", prediction.image_size)))
    left, top = (prediction.width - side) // 2, (prediction.height - side) // 2
    return Box(left, top, left + side, top + side)


def embed(pixels: Pixels, *, lossless: bool = False) -> str:
    """Return a picture as a data URL: JPEG, or grey PNG where it must be without loss."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if lossless:
        image.convert("L").save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=90)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
