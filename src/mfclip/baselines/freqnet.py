"""FreqNet: a small network that keeps to high frequencies of pixels and features.

Source: Tan et al., "Frequency-Aware Deepfake Detection: Improving Generalizability through
Frequency Space Domain Learning", AAAI 2024. Written anew from the description of its blocks, no
code ported. 1.85 M parameters.
Axes: b images, c channels, h w pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.layers.normalisation import JointBatchNorm2d
from mfclip.layers.verdict import binary_cross_entropy, two_columns

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def keep_high_frequencies(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Zero the low half of the spectrum over height and width, and cut what is negative afterwards.

    Along an axis of length n the 2 (n // 4) frequencies around 0 are low, from -(n // 4) on; a
    coefficient is zeroed if it is low along both axes. This is the paper's HFRI on pictures and
    HFRF-S on features. What is zeroed is a linear map of each axis, and two products with its
    matrix take less time than the transform and its inverse.

    Example:
        >>> keep_high_frequencies(torch.ones(1, 1, 8, 8)).max().item() < 1e-6
        True
    """
    channels, height, width = (int(size) for size in values.shape[1:])  # also while traced
    down, along = _LowPass.like(height, values), _LowPass.like(width, values)
    last = values.permute(0, 2, 3, 1)
    rows = last.reshape(-1, height, width * channels)
    real = along.real @ (down.real @ rows).view(-1, width, channels)
    pair = along.imaginary @ (down.pair @ rows).view(-1, width, channels)
    low = real.view(rows.shape) - down.back @ pair.view(-1, 2, width * channels)
    return functional.relu(last - low.view(last.shape)).permute(0, 3, 1, 2)


def keep_high_channels(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Do the same along the channels (the paper's HFRF-C).

    Example:
        >>> keep_high_channels(torch.ones(1, 8, 1, 1)).max().item() < 1e-6
        True
    """
    low = _LowPass.like(int(values.shape[1]), values).real
    return functional.relu(values - functional.conv2d(values, low[:, :, None, None]))


class _LowPass(NamedTuple):
    """Transform an axis of length n, keep what is low, transform back: a complex n x n matrix.

    Each low frequency but the lowest has its negative beside it, so that the imaginary part stems
    from that one alone and is a product of two thin matrices.
    """

    real: Float[Tensor, "n n"]
    back: Float[Tensor, "n 2"]
    pair: Float[Tensor, "2 n"]

    @property
    def imaginary(self) -> Float[Tensor, "n n"]:
        """Imaginary part of the matrix."""
        return self.back @ self.pair

    @classmethod
    def like(cls, size: int, values: Tensor) -> _LowPass:
        """Build the map of an axis, on the device and in the type of other values."""
        place = torch.arange(size, device=values.device)
        low = torch.arange(-(size // 4), size // 4, device=values.device)
        turn = 2 * torch.pi / size
        wide = torch.promote_types(values.dtype, torch.float32)
        waves = ((place[:, None] * low % size).to(wide) * turn).cos().sum(1) / size
        edge = (place * (size // 4) % size).to(wide) * turn
        sine, cosine = edge.sin(), edge.cos()
        parts = (
            waves[(place[:, None] - place) % size],
            torch.stack([-sine, cosine], 1) / size,
            torch.stack([cosine, sine]),
        )
        return cls(*(part.to(values.dtype) for part in parts))


class FrequencyConvolution(nn.Module):
    """1x1 convolutions of the spectrum: one of its real, one of its imaginary part (FCL).

    The real part of a spectrum is the spectrum of the picture's even half, i times the imaginary
    part that of its odd half: half the sum with, and half the difference from, the picture
    mirrored about its first pixel as if repeated for ever. And a 1x1 convolution may be done
    before a transform or after it. So the transform and its inverse cancel, and what is left is
    one 1x1 convolution of the picture and one of its mirrored copy.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.real = nn.Conv2d(channels, channels, 1, bias=False)
        self.imaginary = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mix the channels of both halves, and cut what is negative."""
        real, imaginary = self.real.weight / 2, self.imaginary.weight / 2
        mixed = functional.conv2d(values, torch.cat([real + imaginary, real - imaginary]))
        plain, mirrored = mixed.chunk(2, 1)
        return functional.relu(plain + mirrored.flip(2, 3).roll((1, 1), (2, 3)))


class FreqNet(nn.Module):
    """High frequencies and convolutions of spectra between two ResNet stages.

    Published training: Adam 1e-3, batch 32, lr x 0.8 every 10 epochs, 85 epochs, binary
    cross-entropy on one logit, from scratch. That logit is z here: the columns are (0, z).

    Differs from the paper: the four plain 1x1 convolutions start with He's spread, as all others
    do, and not with unit variance, which multiplies the signal by eight at each. Under autocast the
    picture's own high frequencies are taken in full precision: they are small beside its light.

    Args:
        image_size: side of the input in pixels.
        loss_settings: weight and smoothing of the cross-entropy.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, image_size: int = 224, loss_settings: LossSettings | None = None) -> None:
        super().__init__()
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, 64, 1)
        self.spectral1 = FrequencyConvolution(64)
        self.conv2 = nn.Conv2d(64, 64, 1, stride=2)
        self.spectral2 = FrequencyConvolution(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage1 = _stage(64, 64, blocks=3, stride=1)
        self.conv3 = nn.Conv2d(256, 256, 1)
        self.spectral3 = FrequencyConvolution(256)
        self.conv4 = nn.Conv2d(256, 256, 1, stride=2)
        self.spectral4 = FrequencyConvolution(256)
        self.stage2 = _stage(256, 128, blocks=4, stride=2)
        self.head = nn.Linear(512, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return two_columns(self.score(images))

    def score(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Return z, the log-odds of fake."""
        with torch.autocast(images.device.type, enabled=False):
            x = keep_high_frequencies((images.to(self.mean.dtype) - self.mean) / self.deviation)
        x = functional.relu(self.conv1(x))
        x = self.spectral1(keep_high_channels(x))
        x = functional.relu(self.conv2(keep_high_frequencies(x)))
        x = self.spectral2(keep_high_channels(x))
        x = self.stage1(self.pool(x))
        x = functional.relu(self.conv3(keep_high_frequencies(x)))
        x = keep_high_frequencies(self.spectral3(x))
        x = self.spectral4(functional.relu(self.conv4(x)))
        out: Tensor = self.head(self.stage2(x).mean((2, 3)))
        return out[:, 0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted binary cross-entropy."""
        settings = self.loss_settings
        loss = binary_cross_entropy(
            self.score(batch.images), batch.target, settings.label_smoothing
        )
        return {"cross_entropy": settings.cross_entropy * loss}

    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights."""
        return {_renamed(name.removeprefix("module.")): v for name, v in tensors.items()}


_PUBLISHED = (
    (r"^(weight|bias)([1-4])$", r"conv\2.\1"),
    (r"^realconv([1-4])\.", r"spectral\1.real."),
    (r"^imagconv([1-4])\.", r"spectral\1.imaginary."),
    (r"^layer([12])\.(\d)\.downsample\.", r"stage\1.\2.shortcut."),
    # behind each of the body's convolutions a norm, and behind the first two an activation
    (r"^layer([12])\.(\d)\.conv1\.", r"stage\1.\2.body.0."),
    (r"^layer([12])\.(\d)\.bn1\.", r"stage\1.\2.body.1."),
    (r"^layer([12])\.(\d)\.conv2\.", r"stage\1.\2.body.3."),
    (r"^layer([12])\.(\d)\.bn2\.", r"stage\1.\2.body.4."),
    (r"^layer([12])\.(\d)\.conv3\.", r"stage\1.\2.body.6."),
    (r"^layer([12])\.(\d)\.bn3\.", r"stage\1.\2.body.7."),
    (r"^fc1\.", "head."),
)
"""Patterns of the authors' names, and what stands for them here."""


def _renamed(name: str) -> str:
    for pattern, here in _PUBLISHED:
        name = re.sub(pattern, here, name)
    return name


class _Bottleneck(nn.Module):
    """ResNet's bottleneck: 1x1, 3x3, 1x1 to four times the width, and a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.body = nn.Sequential(
            *_conv_norm(in_channels, width, 1),
            nn.ReLU(),
            *_conv_norm(width, width, 3, stride),
            nn.ReLU(),
            *_conv_norm(width, out_channels, 1),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(*_conv_norm(in_channels, out_channels, 1, stride))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return functional.relu(self.body(x) + self.shortcut(x))


def _conv_norm(
    in_channels: int, out_channels: int, size: int, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)
    return convolution, JointBatchNorm2d(out_channels)


def _stage(in_channels: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(_Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))
