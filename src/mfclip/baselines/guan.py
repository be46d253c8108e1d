"""Guan et al.: any backbone, trained at the worst shift of its shallow features' statistics.

Source: Guan et al., "Improving Generalization of Deepfake Detectors by Imposing Gradient
Regularization", IEEE TIFS 19, 2024; read in the paper's text, for there is no code of the authors.
The backbones are timm's (Apache-2.0).
Axes: b images, c channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.collectives import process_count, sum_over_processes
from mfclip.layers.normalisation import statistics_untouched
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision, join_statistics

Backbone = Literal["convnext_base", "efficientnet_b4", "xception", "resnet50", "convnext_atto"]

_SITES: dict[Backbone, tuple[str, tuple[str, ...]]] = {
    "convnext_base": ("convnext_base", tuple(f"stages.0.blocks.{n}" for n in range(3))),
    "efficientnet_b4": ("tf_efficientnet_b4", ("blocks.0", "blocks.1")),
    "xception": ("legacy_xception", ("block1", "block2")),
    "resnet50": ("resnet50", ("layer1.0", "layer1.1", "layer1.2")),
    "convnext_atto": ("convnext_atto", tuple(f"stages.0.blocks.{n}" for n in range(2))),
}
"""timm's name of each backbone, and the blocks behind which features are shifted."""

_EPSILON = 1e-6


class Guan(nn.Module):
    """A classifier that learns where a small shift of feature statistics would raise its loss.

    A step takes two passes. The first one gives the gradient of the loss with respect to a shift of
    mean and deviation of each channel of the shallow features; the second one sees the features
    shifted along it, by a length of `radius`, and its gradient moves the weights. A picture is
    judged without any shift.

    In several processes the shift is that of the joined batch; with ``train.accumulate`` above 1
    each part has its own.

    Published training: ConvNeXt-Base 224 px (EfficientNet-B4 380 px), weights from ImageNet, batch
    64, up to 100 epochs; optimiser and rate are not stated; see ``configs/baselines/guan.toml``.
    The figures of the MFCLIP paper's Table V are a video's, after training on self-blended fakes.

    Not stated, and so decided here: the deviation is the root of the biased variance plus 1e-6; one
    length holds over all shifts together; the blocks of the backbones other than ConvNeXt.

    Args:
        image_size: side of the input in pixels.
        dropout: share of the pooled features dropped while training.
        backbone: the authors' main one, three others of theirs, or a small one for a CPU.
        radius: length of the shift.
        alpha: weight of the shifted pass; the rest is that of the plain one.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: a radius or weight that cannot be.
        MissingExtraError: timm is not installed.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        image_size: int = 224,
        dropout: float = 0.0,
        backbone: Backbone = "convnext_base",
        radius: float = 0.1,
        alpha: float = 1.0,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if radius <= 0 or not 0 < alpha <= 1:
            raise ConfigError(
                f"expected a radius above 0 and alpha in (0, 1], but got {radius} and {alpha}"
            )
        self.image_size = image_size
        self.radius = radius
        self.alpha = alpha
        self.loss_settings = loss_settings or LossSettings()
        name, sites = _SITES[backbone]
        self.sites = sites
        timm = import_vision("timm")
        self.network: Any = timm.create_model(name, num_classes=2, drop_rate=dropout)
        known = self.network.pretrained_cfg
        for own, theirs in (("mean", "mean"), ("deviation", "std")):
            values = torch.tensor(known[theirs]).view(3, 1, 1)
            self.register_buffer(own, values, persistent=False)
        join_statistics(self.network)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.network((images - self.mean) / self.deviation)
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy, of shifted features while training."""
        if not (self.training and torch.is_grad_enabled()):
            return {"cross_entropy": self._cross_entropy(batch)}
        parts = [self.network.get_submodule(site) for site in self.sites]
        with _shifted(parts, None) as shifts:
            plain = self._cross_entropy(batch)
        shifts = worst_shifts(plain, shifts, self.radius, keep_graph=self.alpha < 1)
        with _shifted(parts, shifts), statistics_untouched([self.network]):
            shifted = self._cross_entropy(batch)
        if self.alpha == 1:
            return {"cross_entropy": shifted}
        return {"cross_entropy": self.alpha * shifted, "plain": (1 - self.alpha) * plain}

    def _cross_entropy(self, batch: Batch) -> Tensor:
        settings = self.loss_settings
        loss = cross_entropy_loss(self(batch.images), batch.target, settings.label_smoothing)
        out: Tensor = settings.cross_entropy * loss
        return out

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename timm's weights to this detector's; the last layer stays its own."""
        last = f"{self.network.pretrained_cfg['classifier']}."
        named = {f"network.{k}": v for k, v in tensors.items() if not k.startswith(last)}
        own = self.state_dict()
        return named | {k: v for k, v in own.items() if k.startswith(f"network.{last}")}


def shift_statistics(
    features: Float[Tensor, "b c h w"], shifts: Float[Tensor, "2 c"]
) -> Float[Tensor, "b c h w"]:
    """Add to each picture's mean and deviation of each channel.

    Args:
        features: a map.
        shifts: of the mean, then of the deviation; the same for all pictures.
    """
    mean = features.mean((2, 3), keepdim=True)
    variance = features.var((2, 3), correction=0, keepdim=True)
    normal = (features - mean) * (variance + _EPSILON).rsqrt()
    of_mean, of_deviation = shifts.to(features.dtype)[:, :, None, None].unbind()
    return features + normal * of_deviation + of_mean


def worst_shifts(
    loss: Float[Tensor, ""],
    shifts: Sequence[Float[Tensor, "2 _"]],
    radius: float,
    *,
    keep_graph: bool = False,
) -> list[Float[Tensor, "2 _"]]:
    """Return the shifts of a common length that raise the loss most, to first order.

    Args:
        loss: mean over the batch of this process; the joined batch's gradient is taken.
        shifts: zeros that the loss depends on.
        radius: length of all shifts together.
        keep_graph: the loss will be sent back again.
    """
    gradients = torch.autograd.grad(loss, list(shifts), retain_graph=keep_graph)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = sum_over_processes(flat) / process_count()
    flat = radius * functional.normalize(flat, dim=0)
    parts = torch.split(flat, [shift.numel() for shift in shifts])
    return [part.view_as(shift) for part, shift in zip(parts, shifts, strict=True)]


@contextlib.contextmanager
def _shifted(parts: Sequence[nn.Module], shifts: Sequence[Tensor] | None) -> Iterator[list[Tensor]]:
    """Shift what these parts give; without shifts by zeros, which are handed out.

    Outside the network is as timm made it, so that neither weights nor graphs know of this.
    """
    zeros: list[Tensor] = []

    def shift(number: int) -> Any:
        def hook(_: nn.Module, __: object, features: Tensor) -> Tensor:
            if shifts is not None:
                return shift_statistics(features, shifts[number])
            size = (2, features.shape[1])
            zeros.append(torch.zeros(size, device=features.device, requires_grad=True))
            return shift_statistics(features, zeros[-1])

        return hook

    handles = [part.register_forward_hook(shift(number)) for number, part in enumerate(parts)]
    try:
        yield zeros
    finally:
        for handle in handles:
            handle.remove()
