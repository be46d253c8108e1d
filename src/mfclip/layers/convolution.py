"""Stages of 3x3 convolutions, each stage halving the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
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

    It computes what its layers in a row compute, in fewer passes over memory. In training the
    pooling comes before the ReLU behind which it stands: both keep the order of values, so result
    and gradient are the same, from a quarter of the values. Without gradients in eval mode batch
    norm is folded into the convolution before it.

    Attributes:
        checkpoint_activations: keep only the input of each stage for the backward pass, and
            compute the rest again there.
    """

    checkpoint_activations = False

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        """Apply all stages in order."""
        values = input
        learns = self.training and torch.is_grad_enabled()
        for stage in self._stages():
            if self.checkpoint_activations and learns:
                values = checkpoint(
                    stage,
                    values,
                    use_reentrant=False,
                    context_fn=partial(_contexts, stage),
                )
            else:
                values = stage(values)
        return values

    def _stages(self) -> Iterator[_Stage]:
        layers: list[nn.Module] = []
        for layer in self:
            layers.append(layer)
            if isinstance(layer, nn.MaxPool2d):
                yield _Stage(layers)
                layers = []
        if layers:
            yield _Stage(layers)


class _Stage:
    """Layers up to and with their pooling."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers

    def __call__(self, values: Tensor) -> Tensor:
        layers = list(self.layers)
        if layers[-1].training and _ends_in_relu_and_pooling(layers):
            layers[-2:] = layers[:-3:-1]
        folds = not (layers[-1].training or torch.is_grad_enabled())
        while layers:
            layer = layers.pop(0)
            if folds and isinstance(layer, nn.Conv2d) and _is_norm(layers[:1]):
                values = _convolve_folded(values, layer, layers.pop(0))
            else:
                values = layer(values)
        return values


def _ends_in_relu_and_pooling(layers: Sequence[nn.Module]) -> bool:
    return [type(layer) for layer in layers[-2:]] == [nn.ReLU, nn.MaxPool2d]


def _is_norm(layers: Sequence[nn.Module]) -> bool:
    return bool(layers) and isinstance(layers[0], JointBatchNorm2d)


def _convolve_folded(values: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    assert isinstance(norm, JointBatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    out: Tensor = conv._conv_forward(values, weight, bias)
    return out


def _contexts(
    stage: _Stage,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """First pass and second: running statistics must see a batch once."""
    return nullcontext(), statistics_untouched(stage.layers)


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
