"""SBI: an EfficientNet-B4 that is trained on real faces and on those faces blended with themselves.

Source: Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022; facts from
the authors' repository (mapooon/SelfBlendedImages, research use only), written anew. The network is
timm's ``tf_efficientnet_b4`` (Apache-2.0). 17.55 M parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import (
    efficientnet_name,
    import_vision,
    join_statistics,
)

_DROP_RATE = {"efficientnet_b4": 0.4, "efficientnet_b0": 0.2}


class Sbi(nn.Module):
    """EfficientNet on pixels in [0, 1] as they are, two classes.

    What is special about SBI is its data: ``data.self_blend = 1`` makes every batch of pairs of a
    real face and a forgery of it, and no real forgery is needed.

    Published training: SAM over SGD 1e-3 with momentum 0.9, batch 32, 100 epochs, the rate falling
    to 0 over the last quarter, 380 px, weights from ImageNet (adversarial). SAM is not here: see
    ``configs/baselines/sbi.toml``.

    Args:
        image_size: side of the input in pixels.
        backbone: the authors', or a smaller one for a CPU.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        backbone: Literal["efficientnet_b4", "efficientnet_b0"] = "efficientnet_b4",
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        self.network: Any = import_vision("timm").create_model(
            f"tf_{backbone}", num_classes=2, drop_rate=_DROP_RATE[backbone], drop_path_rate=0.2
        )
        for part in self.network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.01  # as the authors' package
        join_statistics(self.network)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.network(images)
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy."""
        settings = self.loss_settings
        loss = cross_entropy_loss(self(batch.images), batch.target, settings.label_smoothing)
        return {"cross_entropy": settings.cross_entropy * loss}

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or an EfficientNet of theirs or of timm's as a start."""
        stages = [len(stage) for stage in self.network.blocks]
        named = {
            f"network.{efficientnet_name(name.removeprefix('net.'), stages)}": value
            for name, value in tensors.items()
        }
        own = self.state_dict()
        last = named.get("network.classifier.weight")
        if last is not None and last.shape == own["network.classifier.weight"].shape:
            return named
        return named | {k: v for k, v in own.items() if k.startswith("network.classifier.")}
