"""Yu et al.: labels at several levels, and features that know how sure they are.

Re-implementation from the description; neither code nor full text was available. Source: Yu et al.,
Pattern Recognition 153, 110526, read in its publisher's highlights: "the first to introduce
uncertainty learning for face forgery detection", hierarchical labels as auxiliary signals. The
backbone is timm's ``legacy_xception`` (Apache-2.0). 21.86 M parameters.
Axes: b pictures, d embedding, h w the backbone's grid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision, join_statistics

_CHANNELS = 2048
_FINER = 4


class Yu(nn.Module):
    """Xception to a distribution at each place of a grid; verdicts for pixels, patches, picture.

    - ``embedding``: each place has a mean and a log-variance. In training a sample of it is judged,
      and a KL term keeps the distribution near the standard normal; in use the mean is judged.
    - ``task``: no distribution; each loss is weighed by a learned log-variance (Kendall et al.,
      CVPR 2018), another reading of "uncertainty".
    - ``none``: neither.

    Pixels and patches are learned from masks (``data.masks = true``); without them those two heads
    get nothing to learn, and their terms are 0.

    Not stated in what could be read, and all ours: the backbone, width, grids, weights, recipe.

    Args:
        image_size: side of the input in pixels.
        width: d.
        uncertainty: see above.
        kl_weight: of the KL term.
        grid_weight: of the losses of pixels and patches.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: a width below 1 or a negative weight.
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        width: int = 256,
        uncertainty: Literal["embedding", "task", "none"] = "embedding",
        kl_weight: float = 1e-3,
        grid_weight: float = 1.0,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or kl_weight < 0 or grid_weight < 0:
            raise ConfigError(
                "expected a width of at least 1, and weights of at least 0, but got "
                f"{width}, {kl_weight} and {grid_weight}"
            )
        self.image_size = image_size
        self.uncertainty = uncertainty
        self.kl_weight = kl_weight
        self.grid_weight = grid_weight
        self.loss_settings = loss_settings or LossSettings()
        network = import_vision("timm.models.xception").Xception(num_classes=0)
        self.network = join_statistics(network)
        self.embedding = nn.Conv2d(_CHANNELS, width, 1)
        self.log_variance = nn.Conv2d(_CHANNELS, width, 1) if uncertainty == "embedding" else None
        self.picture = nn.Linear(width, 2)
        self.patches = nn.Conv2d(width, 1, 1)
        self.pixels = nn.Conv2d(width, _FINER**2, 1)  # each place speaks for 4 x 4 finer ones
        self.task_variances = nn.Parameter(torch.zeros(3)) if uncertainty == "task" else None

    def embed(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b d p q"], Float[Tensor, "b d p q"] | None]:
        """Return mean and log-variance at each place; None without a distribution."""
        network: Any = self.network
        grid = network.forward_features(images * 2 - 1)
        # kept within e^-10 and e^10: a sample of anything wider is noise
        spread = None if self.log_variance is None else self.log_variance(grid).clamp(-10, 10)
        return self.embedding(grid), spread

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.picture(self.embed(images)[0].mean((2, 3)))
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms: picture, patches, pixels, and what the distribution costs."""
        settings = self.loss_settings
        mean, spread = self.embed(batch.images)
        seen = sample(mean, spread) if self.training and spread is not None else mean
        logits = self.picture(seen.mean((2, 3)))
        picture = cross_entropy_loss(logits, batch.target, settings.label_smoothing)
        patches = mask_loss(self.patches(seen), batch.masks)
        pixels = mask_loss(functional.pixel_shuffle(self.pixels(seen), _FINER), batch.masks)
        weighted = [
            settings.cross_entropy * picture,
            self.grid_weight * patches,
            self.grid_weight * pixels,
        ]
        if self.task_variances is not None:
            weighted = [
                term * (-log).exp() + log / 2
                for term, log in zip(weighted, self.task_variances, strict=True)
            ]
        terms = dict(zip(("cross_entropy", "patches", "pixels"), weighted, strict=True))
        if spread is not None:
            terms["kl"] = self.kl_weight * divergence(mean, spread)
        return terms

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take timm's ``legacy_xception`` as a start of the backbone."""
        body = {k: v for k, v in tensors.items() if not re.match(r"(fc|last_linear)\.", k)}
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("network.")}
        return own | {f"network.{name}": value for name, value in body.items()}


def sample(
    mean: Float[Tensor, "b d p q"], log_variance: Float[Tensor, "b d p q"]
) -> Float[Tensor, "b d p q"]:
    """Draw from the normal distribution at each place, letting gradients through to both."""
    return mean + torch.randn_like(mean) * (log_variance / 2).exp()


def divergence(
    mean: Float[Tensor, "b d p q"], log_variance: Float[Tensor, "b d p q"]
) -> Float[Tensor, ""]:
    r"""Return the mean divergence of a place's distribution from the standard normal one.

    .. math:: \frac{1}{2} (\mu^2 + \sigma^2 - \log \sigma^2 - 1)

    Example:
        >>> divergence(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item()
        0.5
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2


def mask_loss(
    logits: Float[Tensor, "b 1 p q"], masks: Float[Tensor, "b 1 h w"] | None
) -> Float[Tensor, ""]:
    """Return the cross-entropy of each cell's share of forged pixels; 0 without masks.

    Args:
        logits: log-odds that a cell is forged.
        masks: share of each pixel that is forged, in [0, 1].
    """
    if masks is None:
        return 0 * logits.float().mean()  # the head has a gradient, and it is 0
    rows, columns = (int(side) for side in logits.shape[-2:])
    target = functional.adaptive_avg_pool2d(masks.float(), (rows, columns))
    return functional.binary_cross_entropy_with_logits(logits.float(), target)
