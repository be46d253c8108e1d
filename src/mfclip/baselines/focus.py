"""FoCus: what the verdict hangs on is erased, and the rest of the face must give it, too.

Re-implementation from the description; neither code nor full text was available. Source: Tian et
al., "FoCus", IEEE TIFS 19:3814-3828, 2024 (arXiv 2409.01030), read in its abstract: regions
proposed by classification from image labels alone, complementary learning, pictures and their Sobel
edges. The backbones are timm's (Apache-2.0). 47.02 M parameters with two ResNet-50.
Axes: b pictures, p q the backbones' grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.normalisation import statistics_untouched
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision, join_statistics

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_SLOPE = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
_WIDTHS = {"resnet50": 2048, "resnet18": 512}
_FULL_SLOPE = 4.0
"""What Sobel's filter gives at an edge from 0 to 1."""

_LEAST_SQUARE = 1e-12  # keeps the gradient of the root finite on even surfaces


class FoCus(nn.Module):
    """Two networks, of the picture and of its edges, and a verdict at each place of their grid.

    The picture's verdict is the mean over the grid, so that the map of the class "fake" shows what
    it hangs on. While training, the places where that map is highest are erased from the picture,
    which is judged again, with the same label: what is left of the face must be used, too.

    Described as a supervision for other detectors; here it is a detector of its own, and all sizes
    are ours: backbones, share, weights, recipe.

    Args:
        image_size: side of the input in pixels.
        backbone: of both streams; the smaller one is for a CPU.
        share: of the grid that is erased.
        complement_weight: of the loss of the second look.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: a share outside (0, 1) or a negative weight.
        MissingExtraError: timm is not installed.
    """

    mean: Tensor
    deviation: Tensor
    slope: Tensor
    compiled = ("colours", "edges")

    def __init__(
        self,
        *,
        image_size: int = 224,
        backbone: Literal["resnet50", "resnet18"] = "resnet50",
        share: float = 0.25,
        complement_weight: float = 1.0,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if not 0 < share < 1 or complement_weight < 0:
            raise ConfigError(
                "expected a share in (0, 1) and a complement_weight of at least 0, but got "
                f"{share} and {complement_weight}"
            )
        self.image_size = image_size
        self.share = share
        self.complement_weight = complement_weight
        self.loss_settings = loss_settings or LossSettings()
        timm = import_vision("timm")
        self.colours, self.edges = (
            join_statistics(timm.create_model(backbone, num_classes=0, global_pool=""))
            for _ in range(2)
        )
        self.verdict = nn.Conv2d(2 * _WIDTHS[backbone], 2, 1)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)
        across = torch.tensor(_SLOPE) / _FULL_SLOPE
        slope = torch.stack([across, across.T])[:, None]
        self.register_buffer("slope", slope, persistent=False)

    def judge_places(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 p q"]:
        """Judge each place of the grid: the class activation maps, column 1 = fake."""
        colours = self.colours((images - self.mean) / self.deviation)
        edges = self.edges((self.find_edges(images) - self.mean) / self.deviation)
        out: Tensor = self.verdict(torch.cat([colours, edges], dim=1))
        return out

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return self.judge_places(images).mean((2, 3))

    def find_edges(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the size of the slope of each colour; 1 = a straight edge from 0 to 1."""
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        slopes = functional.conv2d(padded, self.slope.repeat(3, 1, 1, 1), groups=3)
        across, down = slopes[:, ::2], slopes[:, 1::2]
        return (across.square() + down.square() + _LEAST_SQUARE).sqrt()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropies of the face, and of it without its suspect part."""
        maps = self.judge_places(batch.images)
        height, width = (int(side) for side in batch.images.shape[-2:])
        suspect = suspect_part(maps[:, 1].detach(), self.share, height, width)
        # what is erased has the mean colour, which is 0 for the networks
        rest = torch.where(suspect[:, None], self.mean, batch.images)
        with statistics_untouched([self.colours, self.edges]):
            complement = self._cross_entropy(self(rest), batch)
        return {
            "cross_entropy": self._cross_entropy(maps.mean((2, 3)), batch),
            "complement": self.complement_weight * complement,
        }

    def _cross_entropy(self, logits: Float[Tensor, "b 2"], batch: Batch) -> Tensor:
        settings = self.loss_settings
        loss = cross_entropy_loss(logits, batch.target, settings.label_smoothing)
        out: Tensor = settings.cross_entropy * loss
        return out

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take a ResNet of timm's or torchvision's as a start of both streams."""
        body = {k: v for k, v in tensors.items() if not k.startswith("fc.")}
        own = {k: v for k, v in self.state_dict().items() if k.startswith("verdict.")}
        return own | {f"{part}.{k}": v for part in ("colours", "edges") for k, v in body.items()}


def suspect_part(
    maps: Float[Tensor, "b p q"], share: float, height: int, width: int
) -> Bool[Tensor, "b h w"]:
    """Mark the pixels of the places where a map is highest.

    Args:
        maps: of the class "fake".
        share: of the places that is marked, at least one of them.
        height: of the picture.
        width: of the picture.

    Example:
        >>> suspect_part(torch.tensor([[[1.0, 9.0], [2.0, 3.0]]]), 0.25, 2, 4).int().tolist()
        [[[0, 0, 1, 1], [0, 0, 0, 0]]]
    """
    places = maps.flatten(1)
    count = max(1, round(share * places.shape[1]))
    marked = torch.zeros_like(places).scatter(1, places.topk(count, dim=1).indices, 1.0)
    grid = marked.view_as(maps)[:, None]
    return functional.interpolate(grid, size=(height, width), mode="nearest")[:, 0].bool()
