"""Stages of 3x3 convolutions, each stage halving the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mfclip.layers.normalisation import JointBatchNorm2d, statistics_untouched


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution that stays in float32 under autocast; its result has autocast's type.

    A bf16 weight is off by up to 1/512: a high-pass filter would let brightness through that is as
    large as the traces it looks for.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        device = input.device.type
        with torch.autocast(device, enabled=False):
            out: Tensor = super()._conv_forward(input.float(), weight, bias)
        if torch.is_autocast_enabled(device):
            out = out.to(torch.get_autocast_dtype(device))
        return out


class ConvStages(nn.Sequential):
    """Convolution, batch norm and ReLU in stages, each closed by 2x2 max pooling.

    Attributes:
        checkpoint_activations: keep only the input of each stage for the backward pass, and
            compute the rest again there.
    """

    checkpoint_activations = False

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Apply all stages in order."""
        values = input
        if not (self.checkpoint_activations and self.training and torch.is_grad_enabled()):
            for layer in self:
                values = layer(values)
            return values
        for stage in self._stages():
            values = checkpoint(
                stage, values, use_reentrant=False, context_fn=partial(_contexts, stage)
            )
        return values

    def _stages(self) -> Iterator[nn.Sequential]:
        layers: list[nn.Module] = []
        for layer in self:
            layers.append(layer)
            if isinstance(layer, nn.MaxPool2d):
                yield nn.Sequential(*layers)
                layers = []
        if layers:
            yield nn.Sequential(*layers)


def _contexts(
    stage: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """First pass and second: running statistics must see a batch once."""
    return nullcontext(), statistics_untouched([stage])


def conv_stages(
    in_channels: int,
    widths: Sequence[int],
    convs: Sequence[int],
    *,
    full_precision_start: bool = False,
) -> ConvStages:
    """Build conv-BN-ReLU layers in stages, each closed by 2x2 max pooling.

    Args:
        in_channels: channels of the input.
        widths: channels of each stage.
        convs: number of convolutions in each stage.
        full_precision_start: keep the first convolution in float32 under autocast.
    """
    layers: list[nn.Module] = []
    for width, count in zip(widths, convs, strict=True):
        for _ in range(count):
            kind = FullPrecisionConv2d if full_precision_start and not layers else nn.Conv2d
            layers += [
                kind(in_channels, width, 3, padding=1),
                JointBatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return ConvStages(*layers)
