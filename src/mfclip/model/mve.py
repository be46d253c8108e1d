"""Multi-modal vision encoder (MVE): IE + NE -> vision features.

Source: paper Sec. III-C: X_v = X_i + N_n.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from mfclip.errors import ConfigError
from mfclip.model.image_encoder import ImageEncoder, TrunkImageEncoder
from mfclip.model.noise_encoder import NoiseEncoder
from mfclip.model.patch_selector import select_richest_patch
from mfclip.model.srm import noise_residual, srm_kernels


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
        image_encoder: ImageEncoder | TrunkImageEncoder | None,
        noise_encoder: NoiseEncoder | None,
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
        features: Tensor | None = None
        if self.image_encoder is not None:
            features = self.image_encoder(images * 2 - 1)
        if self.noise_encoder is not None:
            noise_features = self.noise_encoder(self.noise(images)[0])
            features = noise_features if features is None else features + noise_features
        assert features is not None  # __init__ refuses both off
        return features

    def noise(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 p p"], Int[Tensor, " b"]]:
        """Return the SRM noise of each image's richest patch, and the patch's index."""
        patches, index = select_richest_patch(images, self.patch_size)
        return noise_residual(patches, self.pixel_scale, self.kernels), index
