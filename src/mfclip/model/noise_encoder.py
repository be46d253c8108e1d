"""Noise encoder (NE): noise residuals to noise features.

Source: paper Sec. III-C, Eq. 4-5. The released sizes (64 x 28 x 28 at p = 112) are kept and
derived from p for the other patch sizes of Table VII.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.errors import ConfigError
from mfclip.layers.convolution import conv_stages
from mfclip.layers.transformer import TokenTransformer


class NoiseEncoder(nn.Module):
    """Two convolution stages, one token, B transformer blocks (NE, Sec. III-C).

    Args:
        patch_size: p, side of a patch in pixels; a multiple of 2 to the number of stages.
        widths: channels of each convolution stage.
        convs: convolutions in each stage.
        depth: B, transformer blocks.
        embed_dim: d, width of the features.
        num_heads: attention heads.
        mlp_ratio: hidden width of the transformer's perceptron over d.
        shared_projection: see `TokenTransformer`.
    """

    def __init__(
        self,
        patch_size: int,
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
        factor = 2 ** len(widths)
        if patch_size % factor:
            message = f"expected patch_size to be a multiple of {factor}, but got {patch_size}"
            raise ConfigError(message)
        self.stages = conv_stages(3, widths, convs)
        self.token = TokenTransformer(
            widths[-1],
            patch_size // factor,
            depth,
            embed_dim,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            shared_projection=shared_projection,
        )

    def forward(self, noise: Float[Tensor, "b 3 p p"]) -> Float[Tensor, "b d"]:
        """Encode SRM residuals with values in [-3, 3]."""
        features: Tensor = self.token(self.stages(noise))
        return features


class GatedNoiseEncoder(nn.Module):
    """NE behind a learned number that starts at 0: what it is added to starts as it was.

    Not in the paper. A pretrained tower is not disturbed by features that mean nothing yet, and
    "without noise" is exactly the start.

    Args:
        encoder: NE.
    """

    def __init__(self, encoder: NoiseEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, noise: Float[Tensor, "b 3 p p"]) -> Float[Tensor, "b d"]:
        """Encode SRM noise."""
        features: Tensor = self.gate * self.encoder(noise)
        return features
