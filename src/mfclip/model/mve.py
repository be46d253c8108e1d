"""Multi-modal vision encoder (MVE): IE + NE -> vision features.

Source: paper Sec. III-C: X_v = X_i + N_n.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mfclip.errors import ConfigError
from mfclip.model.image_encoder import ImageEncoder, TrunkImageEncoder
from mfclip.model.noise_encoder import GatedNoiseEncoder, NoiseEncoder
from mfclip.model.patch_selector import cut_patches, find_richest_patch
from mfclip.model.srm import level_residual, srm_kernels
from mfclip.model.tower import TowerEncoder


class MultiModalVisionEncoder(nn.Module):
    """Global image features plus noise features of the richest patch (MVE, Sec. III-C).

    Args:
        image_encoder: IE; None switches it off (Table VI).
        noise_encoder: NE; None switches it off (Table VI).
        patch_size: p, side of the richest patch in pixels.
        pixel_scale: value of white when the SRM kernels are applied, 1 or 255.

    Raises:
        ConfigError: both encoders are off.
    """

    kernels: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder | TrunkImageEncoder | TowerEncoder | None,
        noise_encoder: NoiseEncoder | GatedNoiseEncoder | None,
        *,
        patch_size: int,
        pixel_scale: float,
    ) -> None:
        super().__init__()
        if image_encoder is None and noise_encoder is None:
            raise ConfigError("use_image and use_noise are both off; a vision encoder needs one")
        self.image_encoder = image_encoder
        self.noise_encoder = noise_encoder
        self.patch_size = patch_size
        self.pixel_scale = pixel_scale
        self.register_buffer("kernels", srm_kernels(), persistent=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode RGB images with pixel values in [0, 1] as X_v = X_i + N_n."""
        return self.encode(images)[0]

    def encode(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b d"], Int[Tensor, " b"] | None]:
        """Return X_v, and the index of the richest patch; None without a noise encoder."""
        features: Tensor | None = None
        index = None
        if self.image_encoder is not None:
            features = self.image_encoder(self.scale_pixels(images))
        if self.noise_encoder is not None:
            noise, index = self.noise(images)
            noise_features = self.noise_encoder(noise)
            features = noise_features if features is None else features + noise_features
        assert features is not None  # __init__ refuses both off
        return features, index

    def scale_pixels(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Turn pixel values in [0, 1] into what the image encoder takes: values in [-1, 1]."""
        return images * 2 - 1

    def noise(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 p p"], Int[Tensor, " b"]]:
        """Return the SRM noise of each image's richest patch, and the patch's index."""
        index = find_richest_patch(images, self.patch_size)
        # what is looked for are steps of one level: bf16, to which an engine may round whatever
        # is computed, holds levels of 0 to 255 exactly, and pixels in [0, 1] not
        with torch.autocast(images.device.type, enabled=False):
            patches = cut_patches(images.float() * 255, index, self.patch_size)
        return level_residual(patches, self.pixel_scale, self.kernels), index
