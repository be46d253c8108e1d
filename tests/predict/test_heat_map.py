"""Heat maps against detectors whose answer is known, and against other ways of computing them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image, ImageFilter
from torch import Tensor, nn

from helpers import SIZES, SLOW, assert_close, pictures, tiny_model
from mfclip.config import build_config
from mfclip.detectors import DETECTORS, build_detector
from mfclip.predict.heat_map import (
    BASE_BLUR,
    COLOURS,
    SMOOTHING,
    blur,
    colour_heat,
    heat_map,
    overlay,
)


class Corner(nn.Module):
    """Fake logit = weights times the pixels of the upper left quarter, and nothing else."""

    def __init__(self, size: int) -> None:
        super().__init__()
        weights = torch.zeros(3, size, size)
        weights[:, : size // 2, : size // 2] = torch.randn(3, size // 2, size // 2)
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        fake = (images * self.weights).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(fake), fake], 1)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in (*SLOW, "freqnet"))) for n in DETECTORS],
)
def test_any_detector_gives_each_face_its_own_map(name: str) -> None:
    settings = {"name": name, **SIZES.get(name, {}), "image_size": 32}
    if name in {"mfclip-small", "mfclip-lite"}:  # their patch is larger than 32 pixels
        settings["use_noise"] = False
    detector, images = build_detector(build_config({"model": settings}).model), pictures(2)
    together = heat_map(detector, images)
    assert together.shape == (2, 32, 32)
    assert 0 <= together.min() <= together.max() <= 1
    hottest = together[1].max()  # 1, but for random weights that answer to nothing
    assert hottest > 0
    assert torch.equal(together, heat_map(detector, images))
    # smoothing hides nothing at 32 pixels: single weak pixels carry the rounding of the gradient
    alone = heat_map(detector, images[1:])[0]
    assert (alone - together[1]).abs().max() < 0.01 * hottest


def test_heat_lies_where_the_detector_looks() -> None:
    heat = heat_map(Corner(128), pictures(4, 128))
    reach = 3 * round(128 * SMOOTHING)  # what smoothing carries over the edge
    assert heat[:, 64 + reach :].max() < 0.01
    assert heat[:, :, 64 + reach :].max() < 0.01
    peak = heat.flatten(1).argmax(1)
    assert (peak // 128 < 64).all()
    assert (peak % 128 < 64).all()


def test_linear_detector_by_hand() -> None:
    detector, images = Corner(64), pictures(2, 64)
    effect = (detector.weights * (images - blur(images, 64 * BASE_BLUR))).sum(1, keepdim=True)
    expected = blur(effect, 64 * SMOOTHING)[:, 0].clamp(min=0)
    expected /= expected.amax((1, 2), keepdim=True)
    assert_close(heat_map(detector, images), expected, factor=10)


def test_no_heat_where_nothing_speaks_for_a_forgery() -> None:
    assert not heat_map(Corner(64), torch.zeros(1, 3, 64, 64)).any()
    assert heat_map(Corner(64), torch.full((1, 3, 64, 64), 0.4)).max() < 0.5


def test_noise_of_the_richest_patch_reaches_its_pixels_only() -> None:
    model = tiny_model(use_image=False)
    images = pictures(1) * 0.001 + 0.5  # flat but for one patch: below a level of grey
    images[:, :, 16:, :16] = pictures(1)[:, :, 16:, :16]
    heat = heat_map(model, images)[0]
    assert heat[16:, :16].sum() / heat.sum() > 0.9


def test_it_neither_changes_the_detector_nor_needs_gradients_on() -> None:
    model, images = tiny_model().train(), pictures(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outside = heat_map(model, images)
    with torch.inference_mode():
        inside = heat_map(model, images * 1)
    assert torch.equal(outside, inside)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_blur_as_pillow_does_it() -> None:
    image = (pictures(1, 64) * 255).round()
    ours = blur(image, 4.0)[0].permute(1, 2, 0).numpy()
    pixels = image[0].permute(1, 2, 0).numpy().astype(np.uint8)
    theirs = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4.0)), float)
    assert np.abs(ours - theirs)[16:-16, 16:-16].max() < 3  # Pillow's is three box blurs


def test_blur_keeps_a_flat_picture() -> None:
    assert_close(blur(torch.full((1, 2, 8, 8), 0.3), 5.0), torch.full((1, 2, 8, 8), 0.3))


def test_colours_are_matplotlibs_viridis() -> None:
    heat = np.linspace(0, 1, 256)
    expected = colormaps["viridis"](heat)[:, :3] * 255
    assert np.abs(colour_heat(heat) - expected).max() < 7
    brightness = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > 0).all()


def test_overlay_keeps_the_face_where_cold_and_colours_it_where_hot() -> None:
    pixels = (pictures(1, 64)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    heat = torch.zeros(64, 64)
    heat[:, 32:] = 1
    out = overlay(pixels, heat)
    assert out.dtype == np.uint8
    assert np.array_equal(out[:, :24], pixels[:, :24])
    hot = 0.2 * pixels[:, 40:] + 0.8 * np.array([253, 231, 37])  # viridis' end over the face
    assert np.abs(out[:, 40:] - hot).max() <= 1
    assert np.array_equal(out, overlay(pixels, heat.numpy()))


def test_overlay_of_a_few_hot_pixels_is_an_area_and_not_a_speck() -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    heat = torch.full((64, 64), 0.001)
    heat[30:33, 30:33] = 1
    changed = np.abs(overlay(pixels, heat).astype(int) - pixels).max(2) > 40
    assert 9 * 4 < changed.sum() < 64 * 64 / 4
    assert np.array_equal(overlay(pixels, torch.zeros(64, 64)), pixels)
