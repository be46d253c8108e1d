"""ViT-B/16: a plain vision transformer.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. The network is timm's
(Apache-2.0). 85.80 M parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision

MAX_DEPTH = 1000
"""Most blocks; a damaged file may name a billion."""


class VisionTransformer(nn.Module):
    """Patches and a class token through pre-norm blocks, a linear layer on the class token.

    The defaults are ViT-B/16. Usually started from ImageNet-21k weights; the paper's figures for
    it look like training from scratch.

    Args:
        image_size: side of the input in pixels; a multiple of `patch_size`.
        dropout: share of the class token dropped before the last layer while training.
        patch_size: side of a patch in pixels.
        width: of a token; a multiple of `num_heads`.
        depth: blocks.
        num_heads: attention heads.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: sizes that do not fit together.
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        dropout: float = 0.0,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if min(patch_size, width, depth, num_heads) < 1 or width % num_heads:
            raise ConfigError(
                "expected patch_size, width, depth and num_heads of at least 1 and a width that is "
                f"a multiple of num_heads, but got {patch_size}, {width}, {depth}, {num_heads}"
            )
        if depth > MAX_DEPTH:  # timm lists a number a block before it builds the first
            raise ConfigError(f"expected depth of at most {MAX_DEPTH}, but got {depth}")
        if image_size % patch_size:
            raise ConfigError(
                f"expected image_size to be a multiple of patch_size {patch_size}, "
                f"but got {image_size}"
            )
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        timm = import_vision("timm.models.vision_transformer")
        self.network: nn.Module = timm.VisionTransformer(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            num_classes=2,
            drop_rate=dropout,
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.network(images * 2 - 1)
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy."""
        settings = self.loss_settings
        loss = cross_entropy_loss(self(batch.images), batch.target, settings.label_smoothing)
        return {"cross_entropy": settings.cross_entropy * loss}

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename timm's weights, positions resampled to `image_size`; the last layer stays."""
        body = {k: v for k, v in tensors.items() if not k.startswith("head.")}
        timm = import_vision("timm.models.vision_transformer")
        fitted = timm.checkpoint_filter_fn(body, self.network)
        head = {k: v for k, v in self.state_dict().items() if k.startswith("network.head.")}
        return {**{f"network.{k}": v for k, v in fitted.items()}, **head}
