"""Stages of 3x3 convolutions, each stage halving the picture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mfclip.layers.normalisation import JointBatchNorm2d


def conv_stages(in_channels: int, widths: Sequence[int], convs: Sequence[int]) -> nn.Sequential:
    """Build conv-BN-ReLU layers in stages, each closed by 2x2 max pooling.

    Args:
        in_channels: channels of the input.
        widths: channels of each stage.
        convs: number of convolutions in each stage.
    """
    layers: list[nn.Module] = []
    for width, count in zip(widths, convs, strict=True):
        for _ in range(count):
            layers += [
                nn.Conv2d(in_channels, width, 3, padding=1),
                JointBatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
