"""RECCE: a network that learns to redraw real faces and reasons about what it cannot redraw.

Source: Cao et al., "End-to-End Reconstruction-Classification Learning for Face Forgery Detection",
CVPR 2022; facts from the authors' repository (VISION-SJTU/RECCE, MIT licence), written anew. The
blocks are those of timm's ``legacy_xception`` (Apache-2.0). 23.78 M parameters; the published file
has a layer of 1000 classes more, which nothing uses.
Axes: b images, p places of the map behind block 7, r x r cells of a finer map at each place, e
width of an embedded cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.layers.collectives import join_over_processes, process_count, sum_over_processes
from mfclip.layers.verdict import binary_cross_entropy, two_columns
from mfclip.layers.vision_packages import import_vision, join_statistics

_NOISE = 1e-6

_PUBLISHED = {
    "va_embedding": "centre",
    "va_gated_b.0": "finer.0.gate",
    "va_gated_c.0": "finer.1.gate",
    "vb_embedding": "finer.0.embed",
    "vc_embedding": "finer.1.embed",
    "reweight_ab.0": "finer.0.weigh",
    "reweight_ac.0": "finer.1.weigh",
    "reproject": "project",
    "attention.gated": "attention.gate",
    "attention.h": "attention.values",
}
"""Parts of the authors' names and their names here."""

_PARTS = ("weight", "bias")


class RecceOutput(NamedTuple):
    """What the losses need.

    Attributes:
        logit: log-odds of fake.
        reconstruction: the redrawn pictures, values in [-1, 1].
        maps: means of the maps behind block 4 and the decoder's two blocks.
    """

    logit: Float[Tensor, " b"]
    reconstruction: Float[Tensor, "b 3 h w"]
    maps: tuple[Tensor, Tensor, Tensor]


class Recce(nn.Module):
    """Xception whose middle is told by a decoder where a face cannot be redrawn.

    The loss is the flooded cross-entropy, the error of redrawing real faces, and a metric term over
    pairs of the batch. All three are those of the joined batch of all processes; with
    ``train.accumulate`` above 1 they are means over parts, and pairs are those of a part.

    Published training: 299 px, flip, Adam 2e-4, weight decay 1e-5, batch 32, lr halved every 22,500
    steps, 90,000 steps, mixed precision, Xception from ImageNet; see
    ``configs/baselines/recce.toml``. The authors chose their best checkpoint on the test split, and
    took a step with old gradients at the start of each epoch; both are left out here.

    Args:
        image_size: side of the input in pixels.
        drop_rate: share dropped before the decoder, in the graph, the attention and the head.
        width: channels of every layer over the published ones.
        flood: the cross-entropy is pushed towards this value from both sides.
        reconstruction_weight: of the error of redrawing real faces.
        metric_weight: of the pairs' term.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        MissingExtraError: timm is not installed.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        drop_rate: float = 0.2,
        width: float = 1.0,
        flood: float = 0.04,
        reconstruction_weight: float = 0.1,
        metric_weight: float = 0.1,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.flood = flood
        self.reconstruction_weight = reconstruction_weight
        self.metric_weight = metric_weight
        self.loss_settings = loss_settings or LossSettings()
        timm = import_vision("timm.models.xception")
        self.encoder = _xception(timm, width)
        w128, w256, w728 = (_scaled(channels, width) for channels in (128, 256, 728))
        self.decoder1 = _up(timm, w728, w256)
        self.decoder2 = timm.Block(w256, w256, 3, 1)
        self.decoder3 = _up(timm, w256, w128)
        self.decoder4 = timm.Block(w128, w128, 3, 1)
        self.decoder5 = _up(timm, w128, _scaled(64, width))
        self.decoder6 = nn.Sequential(nn.Conv2d(_scaled(64, width), 3, 1, bias=False), nn.Tanh())
        self.reasoning = GraphReasoning(w728, w256, finer=(w256, w128), drop_rate=drop_rate)
        self.attention = GuidedAttention(w728, drop_rate=drop_rate)
        self.dropout = nn.Dropout(drop_rate)
        self.fc = nn.Linear(_scaled(2048, width), 1)
        for part in self.encoder.modules():  # as timm's
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        join_statistics(self)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return two_columns(self.judge(images).logit)

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> RecceOutput:
        """Return the log-odds of fake, and what the losses compare."""
        clean = images * 2 - 1
        body: Any = self.encoder
        x = body.conv1(_with_noise(clean) if self.training else clean)
        x = body.conv2(body.act1(body.bn1(x)))
        x = body.act2(body.bn2(x))
        shallow = body.block4(body.block3(body.block2(body.block1(x))))

        coarse = self.decoder2(self.decoder1(self.dropout(shallow)))
        fine = self.decoder4(self.decoder3(coarse))
        redrawn = self.decoder6(self.decoder5(fine))
        redrawn = _resize(redrawn, images)

        deep = body.block7(body.block6(body.block5(shallow)))
        deep = body.block8(deep + self.reasoning(deep, (coarse, fine)))
        deep = self.attention((clean - redrawn).abs(), deep)
        deep = body.block12(body.block11(body.block10(body.block9(deep))))
        deep = body.act3(body.bn3(body.conv3(deep)))
        deep = body.act4(body.bn4(body.conv4(deep)))
        logit: Tensor = self.fc(self.dropout(deep.mean((2, 3))))
        means = (shallow.mean((2, 3)), coarse.mean((2, 3)), fine.mean((2, 3)))
        return RecceOutput(logit[:, 0], redrawn, means)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms: cross-entropy, reconstruction, metric."""
        settings, out = self.loss_settings, self.judge(batch.images)
        own = binary_cross_entropy(out.logit, batch.target, settings.label_smoothing)
        joint = sum_over_processes(own) / process_count()
        flooded = (joint - self.flood).abs() + self.flood
        error = reconstruction_loss(batch.images * 2 - 1, out.reconstruction, batch.target)
        return {
            "cross_entropy": settings.cross_entropy * flooded,
            "reconstruction": self.reconstruction_weight * error,
            "metric": self.metric_weight * metric_loss(out.maps, batch.target),
        }

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or timm's ``legacy_xception`` as a start for the encoder."""
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
        if any(name.startswith("model.encoder.") for name in tensors):  # DeepfakeBench
            start = "model."  # it keeps a second Xception beside it, which nothing uses
            own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            tensors = own | {f"fc.{k}": (own[f"fc.{k}"][1:] - own[f"fc.{k}"][:1]) for k in _PARTS}
        if not any(name.startswith("encoder.") for name in tensors):
            encoder = {f"encoder.{name}": value for name, value in tensors.items()}
            tensors = {**self.state_dict(), **encoder}
        return {
            re.sub("|".join(_PUBLISHED), lambda found: _PUBLISHED[found[0]], name): value
            for name, value in tensors.items()
            if not name.startswith("encoder.fc.")  # 1000 classes that nothing uses
        }


def reconstruction_loss(
    images: Float[Tensor, "b 3 h w"],
    redrawn: Float[Tensor, "b 3 h w"],
    target: Int[Tensor, " b"],
) -> Float[Tensor, ""]:
    """Return the mean absolute error over real pictures; 0 if the joined batch has none."""
    error = (redrawn.float() - images.float()).abs().mean((1, 2, 3))
    real = (target == 0).to(error.dtype)
    count = sum_over_processes(real.sum())
    return sum_over_processes((error * real).sum()) / count.clamp(min=1)


def metric_loss(maps: Sequence[Float[Tensor, "b _"]], target: Int[Tensor, " b"]) -> Tensor:
    r"""Draw real faces together and away from fakes; fakes need not be alike.

    .. math:: \sum_m \max(0, 1 - \overline{s}_{real, real} + \overline{s}_{real, fake})

    where s = (cos + 1) / 2 of two samples' means of map m. Without two real faces the first mean is
    0, without a pair of both kinds the second.

    Args:
        maps: a mean of each map a sample.
        target: 1 = fake, 0 = real.
    """
    fake = join_over_processes(target).bool()
    mixed = fake[:, None] != fake[None]
    real = ~(fake[:, None] | fake[None])
    real &= ~torch.eye(len(fake), dtype=torch.bool, device=fake.device)
    total = torch.zeros((), device=target.device)
    for values in maps:
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        joined = join_over_processes(functional.normalize(wide, dim=1))
        likeness = (joined @ joined.T + 1) / 2
        together, apart = (
            (likeness * pairs).sum() / pairs.sum().clamp(min=1) for pairs in (real, mixed)
        )
        total = total + functional.relu(1 - together + apart)
    return total


class GraphReasoning(nn.Module):
    """Each place of a map asks the cells of finer maps that cover it (multi-scale graph).

    The authors walk over the places in a loop; here all places are asked at once.

    Args:
        channels: of the map.
        width: e.
        finer: channels of the maps that are 2 and 4 times as fine.
        drop_rate: share of the result dropped while training.
    """

    def __init__(
        self, channels: int, width: int, *, finer: tuple[int, int], drop_rate: float
    ) -> None:
        super().__init__()
        self.centre = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        self.finer = nn.ModuleList(
            _FinerMap(channels, cell, width, ratio)
            for cell, ratio in zip(finer, (2, 4), strict=True)
        )
        self.project = nn.Sequential(
            nn.Conv2d(3 * width, channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Dropout(drop_rate),
        )

    def forward(
        self,
        values: Float[Tensor, "b c h w"],
        finer: tuple[Float[Tensor, "b c2 h2 w2"], Float[Tensor, "b c4 h4 w4"]],
    ) -> Float[Tensor, "b c h w"]:
        """Return what is to be added to the map."""
        centre = self.centre(values)
        asked = [ask(values, centre, each) for ask, each in zip(self.finer, finer, strict=True)]
        out: Tensor = self.project(torch.cat([*asked, centre], dim=1).sigmoid())
        return out


class _FinerMap(nn.Module):
    """The cells of one finer map, weighed by the place they belong to."""

    def __init__(self, channels: int, cell: int, width: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.gate = nn.Conv2d(channels, width, 1, bias=False)
        self.embed = nn.Sequential(
            nn.Linear(cell, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False)
        )
        self.weigh = nn.Linear(2 * width, 1, bias=False)

    def forward(
        self,
        values: Float[Tensor, "b c h w"],
        centre: Float[Tensor, "b e h w"],
        finer: Float[Tensor, "b c2 h2 w2"],
    ) -> Float[Tensor, "b e h w"]:
        r = self.ratio
        height, width = (int(size) for size in centre.shape[2:])
        # b c h r w r -> b h w r r c -> b p rr e
        cells = finer.reshape(-1, finer.shape[1], height, r, width, r)
        cells = self.embed(cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2))
        own, other = self.weigh.weight[0].chunk(2)  # of [centre, cell], without joining them
        score = (centre.flatten(2).transpose(1, 2) @ own)[..., None] + cells @ other
        weight = functional.relu(score).softmax(-1)  # b p rr
        summed = (weight[:, :, None] @ cells)[:, :, 0]  # b p e
        gate = 1 - self.gate(values).sigmoid()
        out: Tensor = summed.transpose(1, 2).reshape(gate.shape) * gate
        return out


class GuidedAttention(nn.Module):
    """Look where the picture differs from its reconstruction.

    Args:
        channels: of the map.
        drop_rate: share of the map dropped while training.
    """

    def __init__(self, channels: int, *, drop_rate: float) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(3, 1, 1, bias=False),
            nn.Sigmoid(),
        )
        self.values = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.dropout = nn.Dropout(drop_rate)

    def forward(
        self, error: Float[Tensor, "b 3 h w"], features: Float[Tensor, "b c p q"]
    ) -> Float[Tensor, "b c p q"]:
        """Weigh the map by the error of the reconstruction, and add it to itself."""
        gate = self.gate(_resize(error, features))
        out: Tensor = gate * self.values(features) + self.dropout(features)
        return out


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _xception(timm: Any, width: float) -> nn.Module:
    """Xception without its last layer, under timm's names, in any width."""
    (w32, w64, w128, w256, w728, w1024, w1536, w2048) = (
        _scaled(n, width) for n in (32, 64, 128, 256, 728, 1024, 1536, 2048)
    )
    parts = {
        "conv1": nn.Conv2d(3, w32, 3, 2, bias=False),
        "bn1": nn.BatchNorm2d(w32),
        "act1": nn.ReLU(),
        "conv2": nn.Conv2d(w32, w64, 3, bias=False),
        "bn2": nn.BatchNorm2d(w64),
        "act2": nn.ReLU(),
        "block1": timm.Block(w64, w128, 2, 2, start_with_relu=False),
        "block2": timm.Block(w128, w256, 2, 2),
        "block3": timm.Block(w256, w728, 2, 2),
        **{f"block{number}": timm.Block(w728, w728, 3, 1) for number in range(4, 12)},
        "block12": timm.Block(w728, w1024, 2, 2, grow_first=False),
        "conv3": timm.SeparableConv2d(w1024, w1536, 3, 1, 1),
        "bn3": nn.BatchNorm2d(w1536),
        "act3": nn.ReLU(),
        "conv4": timm.SeparableConv2d(w1536, w2048, 3, 1, 1),
        "bn4": nn.BatchNorm2d(w2048),
        "act4": nn.ReLU(),
    }
    return nn.ModuleDict(parts)


def _up(timm: Any, channels: int, out_channels: int) -> nn.Sequential:
    """Twice the side by nearest neighbours, then a separable convolution."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        timm.SeparableConv2d(channels, out_channels, 3, 1, 1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _resize(
    values: Float[Tensor, "b c h w"], like: Float[Tensor, "b k p q"]
) -> Float[Tensor, "b c p q"]:
    """Scale a map to the size of another."""
    size = [int(side) for side in like.shape[-2:]]  # traced for another runtime they are no ints
    return functional.interpolate(values, size=size, mode="bilinear", align_corners=True)


def _with_noise(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Add the authors' white noise to a random half of the batch: below any grey level's step."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) > 1 / 2
    return (images + _NOISE * torch.randn_like(images) * chosen).clamp(-1, 1)
