"""Xception: separable convolutions, the usual baseline for face forgeries.

Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017; for
forgeries Roessler et al., "FaceForensics++", ICCV 2019. The network is timm's ``legacy_xception``
(Apache-2.0). 20.81 M parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision, join_statistics


class Xception(nn.Module):
    """Entry, middle and exit flow of separable convolutions, mean, one linear layer.

    Published training: Adam 2e-4, weight decay 5e-4, batch 32, 10 epochs, cross-entropy, 299 or
    256 px, weights from ImageNet.

    Args:
        image_size: side of the input in pixels.
        dropout: share of the pooled features dropped while training.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        dropout: float = 0.0,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        network = import_vision("timm.models.xception").Xception(num_classes=2, drop_rate=dropout)
        self.network = join_statistics(network)

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
        """Rename timm's weights, or those of FaceForensics++ or DeepfakeBench.

        The last layer stays this detector's own where the file has another number of classes.
        """
        named = {}
        for name, value in tensors.items():
            here = re.sub(r"^(module\.|backbone\.|model\.)*", "", name)
            here = re.sub(r"^last_linear\.(1\.)?", "fc.", here)  # .1: behind a dropout
            if not here.startswith("adjust_channel."):  # for other detectors of the bench
                named[f"network.{here}"] = value
        head = {k: v for k, v in self.state_dict().items() if k.startswith("network.fc.")}
        fits = all(k in named and named[k].shape == v.shape for k, v in head.items())
        return named if fits else {**named, **head}
