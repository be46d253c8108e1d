"""FreqNet: a small network that keeps to high frequencies of pixels and features.

Source: Tan et al., "Frequency-Aware Deepfake Detection: Improving Generalizability through
Frequency Space Domain Learning", AAAI 2024. Written anew from the description of its blocks, no
code ported. 1.85 M parameters.
Axes: b images, c channels, h w pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.layers.normalisation import JointBatchNorm2d

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def keep_high_frequencies(
    values: Float[Tensor, "b c h w"], axes: tuple[int, ...]
) -> Float[Tensor, "b c h w"]:
    """Zero the lower half of the spectrum along some axes, and cut what is negative afterwards.

    Along each axis of length n the 2 (n // 4) frequencies around 0 are low; a coefficient is
    zeroed if it is low along all `axes`. Over (2, 3) this is the paper's HFRI on pictures and
    HFRF-S on features, over (1,) its HFRF-C.

    Example:
        >>> keep_high_frequencies(torch.ones(1, 1, 8, 8), (2, 3)).max().item()
        0.0
    """
    spectrum = torch.fft.fftshift(torch.fft.fftn(values, dim=axes, norm="ortho"), dim=axes)
    is_low = torch.ones((), dtype=torch.bool, device=values.device)
    for axis in axes:
        size = values.shape[axis]
        distance = torch.arange(size, device=values.device) - size // 2
        inside = (distance >= -(size // 4)) & (distance < size // 4)
        is_low = is_low & inside.view([-1 if a == axis else 1 for a in range(values.ndim)])
    spectrum = torch.fft.ifftshift(spectrum.masked_fill(is_low, 0), dim=axes)
    return functional.relu(torch.fft.ifftn(spectrum, dim=axes, norm="ortho").real)


class FrequencyConvolution(nn.Module):
    """1x1 convolutions of the spectrum: one of its real, one of its imaginary part (FCL)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.real = nn.Conv2d(channels, channels, 1, bias=False)
        self.imaginary = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Transform, mix the channels, transform back, and cut what is negative."""
        # a 1x1 convolution does not mind where frequency 0 lies, so nothing is shifted
        spectrum = torch.fft.fft2(values, norm="ortho")
        real, imaginary = spectrum.real.contiguous(), spectrum.imag.contiguous()
        mixed = torch.complex(self.real(real), self.imaginary(imaginary))
        return functional.relu(torch.fft.ifft2(mixed, norm="ortho").real)


class FreqNet(nn.Module):
    """High frequencies and convolutions of spectra between two ResNet stages.

    Published training: Adam 1e-3, batch 32, lr x 0.8 every 10 epochs, 85 epochs, binary
    cross-entropy on one logit, from scratch. That logit is z here: the columns are (0, z).

    Differs from the paper: the four plain 1x1 convolutions start with He's spread, as all others
    do, and not with unit variance, which multiplies the signal by eight at each. The whole network
    runs in full precision under autocast, since half precision has no transform on most devices.

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
        logit = self.score(images)
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    def score(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Return z, the log-odds of fake."""
        with torch.autocast(images.device.type, enabled=False):
            x = (images.to(self.mean.dtype) - self.mean) / self.deviation
            x = functional.relu(self.conv1(keep_high_frequencies(x, (2, 3))))
            x = self.spectral1(keep_high_frequencies(x, (1,)))
            x = functional.relu(self.conv2(keep_high_frequencies(x, (2, 3))))
            x = self.spectral2(keep_high_frequencies(x, (1,)))
            x = self.stage1(self.pool(x))
            x = functional.relu(self.conv3(keep_high_frequencies(x, (2, 3))))
            x = keep_high_frequencies(self.spectral3(x), (2, 3))
            x = self.spectral4(functional.relu(self.conv4(x)))
            out: Tensor = self.head(self.stage2(x).mean((2, 3)))
        return out[:, 0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted binary cross-entropy."""
        smoothing = self.loss_settings.label_smoothing
        target = batch.target.float() * (1 - smoothing) + smoothing / 2
        loss = functional.binary_cross_entropy_with_logits(self.score(batch.images), target)
        return {"cross_entropy": self.loss_settings.cross_entropy * loss}


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
