"""Convolution stages: their layers, and what they answer to a kernel moved by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers import assert_close, fill, pictures
from mfclip.layers.convolution import conv_stages
from mfclip.layers.normalisation import JointBatchNorm2d


def convolve_by_hand(images: Tensor, layer: nn.Conv2d) -> Tensor:
    """Move a 3x3 kernel over the picture: rows with rows, columns with columns."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (1, 1, 1, 1))
    out = layer.bias[None, :, None, None].expand(len(images), -1, height, width)
    for y in range(3):
        for x in range(3):
            window = padded[:, :, y : y + height, x : x + width]
            out = out + torch.einsum("bihw,oi->bohw", window, layer.weight[:, :, y, x])
    return out


def test_a_stage_equals_kernels_moved_by_hand() -> None:
    stages = fill(conv_stages(3, (4, 5), (1, 2))).eval()
    images = pictures(2, 16)[:, :, :, :12]  # 16 rows, 12 columns
    expected = images
    for layer in stages:
        if isinstance(layer, nn.Conv2d):
            expected = convolve_by_hand(expected, layer)
        elif isinstance(layer, JointBatchNorm2d):
            scale = layer.weight / (layer.running_var + layer.eps).sqrt()
            centred = expected - layer.running_mean[:, None, None]
            expected = centred * scale[:, None, None] + layer.bias[:, None, None]
        elif isinstance(layer, nn.ReLU):
            expected = expected.clamp_min(0)
        else:
            b, c, h, w = expected.shape
            expected = expected.view(b, c, h // 2, 2, w // 2, 2).amax((3, 5))
    assert expected.shape == (2, 5, 4, 3)
    assert_close(stages(images), expected)


@pytest.mark.parametrize(
    ("widths", "convs"), [((4,), (3,)), ((4, 8), (1, 2)), ((2, 3, 4), (2, 1, 1))]
)
def test_layers_are_counted_by_widths_and_convs(
    widths: tuple[int, ...], convs: tuple[int, ...]
) -> None:
    stages = conv_stages(3, widths, convs)
    channels = [layer.out_channels for layer in stages if isinstance(layer, nn.Conv2d)]
    assert channels == [w for w, count in zip(widths, convs, strict=True) for _ in range(count)]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in stages) == len(widths)


def test_widths_and_convs_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        conv_stages(3, (4, 8), (1,))
