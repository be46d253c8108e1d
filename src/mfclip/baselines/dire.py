"""DIRE: a ResNet-50 that judges what a diffusion model changes when it redraws a picture.

Source: Wang et al., "DIRE for Diffusion-Generated Image Detection", ICCV 2023; facts from the
authors' repository (ZhendongWang6/DIRE, no licence file), written anew. The network is timm's
(Apache-2.0). 23.51 M parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.layers.verdict import binary_cross_entropy, two_columns
from mfclip.layers.vision_packages import import_vision, join_statistics

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Dire(nn.Module):
    """The classifier of DIRE: its pictures are maps of reconstruction errors, not faces.

    A map is the absolute difference of a picture and its reconstruction by a diffusion model (20
    steps of DDIM there and back). It is made beforehand, once for all pictures of a manifest.

    Published training: start from ImageNet, Adam 1e-4 without decay, batch 64, up to 400 epochs, lr
    / 10 when accuracy stands still for 5 epochs, end below 1e-6; resized to 256 px, crop of 224,
    flip; see ``configs/baselines/dire.toml``. The authors write a map under the picture's own file
    name, so that maps of JPEG pictures are JPEG and those of PNG pictures are PNG: where real and
    fake differ in that, the format gives the answer away.

    Args:
        image_size: side of the input in pixels.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        MissingExtraError: timm is not installed.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, image_size: int = 224, loss_settings: LossSettings | None = None) -> None:
        super().__init__()
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)
        network = import_vision("timm.models.resnet").resnet50(num_classes=1)
        nn.init.normal_(network.fc.weight, std=0.02)
        self.network = join_statistics(network)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge maps with values in [0, 1]; column 1 = fake."""
        return two_columns(self.score(images))

    def score(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Return z, the log-odds of fake."""
        logits: Tensor = self.network((images - self.mean) / self.deviation)
        return logits[:, 0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted binary cross-entropy."""
        settings = self.loss_settings
        loss = binary_cross_entropy(
            self.score(batch.images), batch.target, settings.label_smoothing
        )
        return {"cross_entropy": settings.cross_entropy * loss}

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or a ResNet-50 of timm's or torchvision's as a start."""
        named = {f"network.{k.removeprefix('module.')}": value for k, value in tensors.items()}
        own = self.state_dict()
        last = named.get("network.fc.weight")
        if last is not None and last.shape == own["network.fc.weight"].shape:
            return named
        return named | {k: v for k, v in own.items() if k.startswith("network.fc.")}
