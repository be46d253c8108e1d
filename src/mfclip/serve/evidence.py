"""Small pictures that show why, as data URIs: what the model saw, where, and its noise."""

from __future__ import annotations

from typing import Any

from mfclip.media.transforms import Pixels
from mfclip.predict.prediction import Prediction
from mfclip.report.views import encode, noise_picture, to_url


def show_evidence(prediction: Prediction, heat_map: Pixels | None) -> dict[str, Any]:
    """Return the pictures of one face, as ``docs/serve.md`` lists them.

    Args:
        prediction: with `pixels`.
        heat_map: the face with what raised its score laid over it; None if there is none.

    Raises:
        ValueError: the prediction was made without `keep_pixels`.
    """
    pixels, box = prediction.pixels, prediction.patch
    if pixels is None:
        raise ValueError("expected a prediction with pixels; judge with keep_pixels=True")
    patch = pixels[box.top : box.bottom, box.left : box.right] if box else None
    return {
        "face": embed(pixels),
        "heat_map": None if heat_map is None else embed(heat_map),
        "patch": None if patch is None else embed(patch),
        "noise": None if patch is None else embed(noise_picture(patch), lossless=True),
    }


def embed(pixels: Pixels, *, lossless: bool = False) -> str:
    """Return RGB pixels as a data URI: JPEG, or grey PNG where every value counts."""
    return to_url(encode(pixels, lossless=lossless), "png" if lossless else "jpeg")
