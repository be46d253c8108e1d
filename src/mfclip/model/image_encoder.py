"""Image encoder (IE, the CViT branch): images to global image features.

Source: paper Sec. III-C, after Wodajo and Atnafu, "Deepfake video detection using convolutional
vision transformer", arXiv 2102.11126.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.errors import ConfigError
from mfclip.layers.convolution import conv_stages
from mfclip.layers.efficientnet_lite import EfficientNetLite
from mfclip.layers.transformer import TokenTransformer


class ImageEncoder(nn.Module):
    """Convolution stages, one token, six transformer blocks (IE, Sec. III-C).

    Differs from the released code: the position embedding belongs to the token and not to the
    place in the batch, and height and width keep their order.

    Args:
        image_size: side of the input in pixels; a multiple of 2 to the number of stages.
        widths: channels of each convolution stage.
        convs: convolutions in each stage.
        depth: transformer blocks.
        embed_dim: d, width of the features.
        num_heads: attention heads.
        mlp_ratio: hidden width of the transformer's perceptron over d.
        shared_projection: see `TokenTransformer`.
    """

    def __init__(
        self,
        image_size: int,
        *,
        widths: Sequence[int],
        convs: Sequence[int],
        depth: int,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float,
        shared_projection: bool = False,
    ) -> None:
        super().__init__()
        side = _pooled_side("image_size", image_size, len(widths))
        self.stages = conv_stages(3, widths, convs, full_precision_start=True)
        self.token = TokenTransformer(
            widths[-1],
            side,
            depth,
            embed_dim,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            shared_projection=shared_projection,
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode images with values in [-1, 1]."""
        features: Tensor = self.token(self.stages(images))
        return features


class TrunkImageEncoder(nn.Module):
    """IE around a trunk that was trained elsewhere: its last map, one token, the transformer.

    Differs from the paper: the trunk takes the place of the convolutions, and its last map is
    averaged over all places instead of projected place by place. Mean and standard deviation of
    earlier stages' channels are added to the token, since the traces of a forgery are fine.

    Args:
        trunk: images with values in [-1, 1] to the maps of its stages; `channels` names their
            widths.
        taps: numbers of the stages, from 1, whose statistics are added.
        depth: transformer blocks.
        embed_dim: d, width of the features.
        num_heads: attention heads.
        mlp_ratio: hidden width of the transformer's perceptron over d.

    Raises:
        ConfigError: a tap is no stage of the trunk.
    """

    def __init__(
        self,
        trunk: EfficientNetLite,
        *,
        taps: Sequence[int],
        depth: int,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        stages = len(trunk.channels)
        if any(not 1 <= tap <= stages for tap in taps):
            raise ConfigError(f"expected image.taps in 1..{stages}, but got {tuple(taps)}")
        self.trunk = trunk
        self.taps = tuple(taps)
        self.token = TokenTransformer(
            trunk.channels[-1],
            1,
            depth,
            embed_dim,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            extra=2 * sum(trunk.channels[tap - 1] for tap in taps),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode images with values in [-1, 1]."""
        maps = self.trunk(images)
        extra = None
        if self.taps:
            tapped = [maps[tap - 1].float() for tap in self.taps]
            # torch.var_mean exports to more operators; 1e-5 keeps the root's slope finite
            means = [values.mean((2, 3)) for values in tapped]
            squares = [values.square().mean((2, 3)) for values in tapped]
            spreads = [
                (square - mean.square()).clamp_min(0).add(1e-5).sqrt()
                for mean, square in zip(means, squares, strict=True)
            ]
            extra = torch.cat([*means, *spreads], 1)
        features: Tensor = self.token(maps[-1].mean((2, 3), keepdim=True), extra)
        return features


@torch.no_grad()
def start_high_pass(encoder: ImageEncoder, share: float) -> None:
    """Make a share of the first layer's filters blind to flat and evenly rising surfaces.

    Only their start: training from scratch then meets fine traces before it meets content.
    Not in the paper.
    """
    first = next(part for part in encoder.stages if isinstance(part, nn.Conv2d))
    count = round(share * len(first.weight))
    first.weight[:count] = remove_ramps(first.weight[:count])


def remove_ramps(kernels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Project kernels onto those that answer 0 to every surface a + b x + c y.

    Example:
        >>> kernels = remove_ramps(torch.randn(2, 3, 3, 3))
        >>> kernels.sum((2, 3)).abs().max().item() < 1e-5
        True
    """
    height, width = kernels.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    surfaces = torch.stack([torch.ones(height, width), x.float(), y.float()]).flatten(1)
    basis = torch.linalg.qr(surfaces.T).Q  # hw 3, orthonormal
    flat = kernels.flatten(2)
    out: Tensor = (flat - flat @ basis @ basis.T).view_as(kernels)
    return out


def _pooled_side(name: str, size: int, stages: int) -> int:
    """Side of the map after `stages` halvings, which must leave no remainder."""
    factor: int = 2**stages
    if size % factor:
        message = (
            f"expected {name} to be a multiple of {factor}, since {stages} stages each halve "
            f"the picture, but got {size}"
        )
        raise ConfigError(message)
    return size // factor
