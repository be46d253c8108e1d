"""UIA-ViT: a vision transformer whose attention learns where a face is inconsistent.

Source: Zhuang et al., "UIA-ViT: Unsupervised Inconsistency-Aware Method based on Vision Transformer
for Face Forgery Detection", ECCV 2022; facts from the authors' repository (wany0824/UIA-ViT, no
licence file), written anew. The transformer is timm's (Apache-2.0). 85.80 M parameters.
Axes: b images, p patches, n = p + 1 tokens, d width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.collectives import join_over_processes, process_count, sum_over_processes
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision

_PLAIN_UNTIL = 1 / 8
"""Share of training in which all patches count alike."""

_BLEND_SLOPE, _BLEND_MIDDLE = 12.0, 0.7
"""Of the sigmoid by which the attention takes over."""

_FACES_A_BATCH = 4
"""Real and forged pictures of a batch whose patches the Gaussians see."""

_GRID, _FACE = 14, (3, 11)
"""Rows and columns in which a forged face lies, of the published grid."""


class UiaOutput(NamedTuple):
    """What the losses need.

    Attributes:
        logits: column 1 = fake.
        patches: normalised tokens of the patches in the middle of the network.
        attention: mean of the scaled products of queries and keys, before any softmax.
    """

    logits: Float[Tensor, "b 2"]
    patches: Float[Tensor, "b p d"]
    attention: Float[Tensor, "b n n"]


class UiaVit(nn.Module):
    """ViT-B/16 that finds forged patches by itself and learns to attend consistently.

    Patches of real and of forged pictures in the middle of the network are described by a Gaussian
    each, fitted again every half epoch. A patch of a fake that lies nearer to the second counts as
    forged; the attention between patches of one kind is drawn to one value, that between kinds to
    another. The head reads the class token and a sum of the patches, weighed more and more by the
    class token's attention; while evaluating it is weighed as at the end of training.

    The consistency loss is that of the joined batch of all processes; with ``train.accumulate``
    above 1 it is a mean over parts.

    Published training: no augmentation, start from ImageNet-21k, Adam 3e-5, no decay, batch 96, 8
    epochs, lr halved after 10 validations without gain, ten validations an epoch, the best by
    accuracy; see ``configs/baselines/uia_vit.toml``.

    Differs from the authors' code: the first fit sees the first epoch and not only its second half,
    since the length of an epoch is known only then; covariances come from running moments and not
    from stored patches, which is the same; validation weighs the patches as use will.

    Args:
        image_size: side of the input in pixels; a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        width: d; a multiple of `num_heads`.
        depth: blocks; the Gaussians describe patches in their middle, and the last five twelfths
            give the attention.
        num_heads: attention heads.
        consistency_weight: of the consistency loss.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: sizes that do not fit together.
        MissingExtraError: timm is not installed.
    """

    not_averaged = ("done", "epoch_share", "fits", "real.*", "fake.*")

    done: Tensor
    epoch_share: Tensor
    fits: Tensor

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        consistency_weight: float = 0.06,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if min(patch_size, width, num_heads, depth - 1) < 1:
            raise ConfigError(
                "expected patch_size, width and num_heads of at least 1 and a depth of at least 2, "
                f"but got {patch_size}, {width}, {num_heads}, {depth}"
            )
        if width % num_heads or image_size % patch_size:
            raise ConfigError(
                "expected width to be a multiple of num_heads and image_size of patch_size, but "
                f"got width={width}, num_heads={num_heads}, image_size={image_size}, "
                f"patch_size={patch_size}"
            )
        self.image_size = image_size
        self.num_heads = num_heads
        self.feature_block = depth // 2
        self.attention_blocks = max(1, round(depth * 5 / 12))
        self.consistency_weight = consistency_weight
        self.loss_settings = loss_settings or LossSettings()
        timm = import_vision("timm.models.vision_transformer")
        self.network = timm.VisionTransformer(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            num_classes=0,
            global_pool="",
        )
        self.middle_norm = nn.LayerNorm(width, eps=1e-6)
        self.middle_norm.requires_grad_(requires_grad=False)  # only the Gaussians see it
        self.head = nn.Linear(2 * width, 2)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.same_out = nn.Parameter(torch.tensor(0.6))
        self.same_in = nn.Parameter(torch.tensor(0.6))
        self.across = nn.Parameter(torch.tensor(0.2))
        self.real, self.fake = RunningGaussian(width), RunningGaussian(width)
        self.register_buffer("done", torch.zeros((), dtype=torch.float64))
        self.register_buffer("epoch_share", torch.zeros((), dtype=torch.float64))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return self.judge(images, self.done if self.training else None).logits

    def judge(
        self, images: Float[Tensor, "b 3 h w"], done: Float[Tensor, ""] | None = None
    ) -> UiaOutput:
        """Return the verdict's logits, and what the losses compare.

        Args:
            images: RGB, pixel values in [0, 1].
            done: share of training behind us; None for all of it.
        """
        network: Any = self.network
        depth, tokens = len(network.blocks), network.patch_embed(images * 2 - 1)
        start = network.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([start, tokens], dim=1) + network.pos_embed
        patches, products = tokens, []
        for number, block in enumerate(network.blocks, start=1):
            queries, keys, values = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)
            mixed = functional.scaled_dot_product_attention(
                self._heads(queries), self._heads(keys), self._heads(values)
            )
            tokens = tokens + block.attn.proj(mixed.transpose(1, 2).flatten(2))
            tokens = tokens + block.mlp(block.norm2(tokens))
            if number == self.feature_block:
                patches = self.middle_norm(tokens[:, 1:])
            if number > depth - self.attention_blocks:
                # the sum of the heads' products is the product of the undivided vectors
                products.append(queries @ keys.transpose(1, 2))
        width = tokens.shape[-1]
        scale = (width // self.num_heads) ** -0.5 / (self.num_heads * self.attention_blocks)
        attention = torch.stack(products).sum(0) * scale
        tokens = network.norm(tokens)
        weight = _patch_weights(attention[:, 0, 1:].sigmoid(), done)
        summed = (weight[:, None] @ tokens[:, 1:])[:, 0] / weight.shape[1]
        logits = self.head(torch.cat([tokens[:, 0], summed], dim=1))
        return UiaOutput(logits, patches, attention)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms: cross-entropy, consistency, constants.

        The last two are 0 in the first epoch, before there are Gaussians.
        """
        out = self.judge(batch.images, self.done if self.training else None)
        settings = self.loss_settings
        cross_entropy = cross_entropy_loss(out.logits, batch.target, settings.label_smoothing)
        with torch.autocast(batch.images.device.type, enabled=False):
            patches = out.patches.detach().float()
            if self.training:
                self._watch(patches, batch.target)
            forged = self.fake.distance(patches) < self.real.distance(patches)
            attention = out.attention[:, 1:, 1:].float().sigmoid()
            constants = (self.same_out, self.same_in, self.across)
            consistency = consistency_loss(attention, batch.target, forged, *constants)
            same = self.same_in.abs(), self.same_out.abs()
            push = 0.5 * self.across.abs() + sum(0.05 / value.clamp(min=1e-6) for value in same)
            begun = (self.fits > 0).float()
        return {
            "cross_entropy": settings.cross_entropy * cross_entropy,
            "consistency": self.consistency_weight * begun * consistency,
            "constants": begun * push,
        }

    def advance(self, done: float, epoch: int) -> None:
        """Take note of the progress, and fit the Gaussians every half epoch from the second on.

        Args:
            done: share of the training steps behind us.
            epoch: number of the epoch, from 0.
        """
        self.done.fill_(done)
        if epoch == 0:  # also where training starts from weights that were trained before
            self.epoch_share.zero_()
            self.fits.zero_()
            return
        if not self.epoch_share:
            self.epoch_share.fill_(done / epoch)
        # epochs 1, 1.5, 2, ... give fits 1, 2, 3, ...
        due = int(2 * done / float(self.epoch_share) + 1e-6) - 1
        if due > self.fits:
            self.real.fit()
            self.fake.fit()
            self.fits.fill_(due)

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or timm's ViT as a start; positions are resampled."""
        named = {re.sub(r"^(module\.|model\.)*", "", k): value for k, value in tensors.items()}
        own = self.state_dict()
        out = {k: v for k, v in own.items() if not k.startswith("network.")}
        # DeepfakeBench keeps the constants of the loss with the network
        constants = {"c_real": "same_out", "c_fake": "same_in", "c_cross": "across"}
        out |= {here: named.pop(name) for name, here in constants.items() if name in named}
        if "norm_middle.weight" in named:
            out |= {f"middle_norm.{part}": named.pop(f"norm_middle.{part}") for part in _PARTS}
            out |= {f"head.{part}": named.pop(f"head.{part}") for part in _PARTS}
        body = {name: value for name, value in named.items() if not name.startswith("head.")}
        timm = import_vision("timm.models.vision_transformer")
        fitted = timm.checkpoint_filter_fn(body, self.network)
        return out | {f"network.{name}": value for name, value in fitted.items()}

    def _heads(self, values: Float[Tensor, "b n d"]) -> Float[Tensor, "b heads n part"]:
        out: Tensor = values.reshape(*values.shape[:2], self.num_heads, -1).transpose(1, 2)
        return out

    @torch.no_grad()
    def _watch(self, patches: Float[Tensor, "b p d"], target: Int[Tensor, " b"]) -> None:
        """Show the Gaussians the first real and forged pictures of the joined batch."""
        side = round(patches.shape[1] ** 0.5)
        first, last = (round(side * place / _GRID) for place in _FACE)
        grid = patches.view(len(patches), side, side, -1)
        inner = grid[:, first:last, first:last].flatten(1, 2)
        self.real.add(*_first_of(patches, target == 0))
        self.fake.add(*_first_of(inner, target == 1))


_PARTS = ("weight", "bias")


class RunningGaussian(nn.Module):
    """Mean and precision of samples that come in batches, by moments of fixed size.

    The covariance is shrunk towards a multiple of one, after Ledoit and Wolf, "A well-conditioned
    estimator for large-dimensional covariance matrices", 2004.

    Args:
        width: d, values a sample.
    """

    count: Tensor
    first: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor
    mean: Tensor
    precision: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        shapes = {"count": (), "first": (width,), "second": (width, width)}
        shapes |= {"third": (width,), "fourth": ()}  # sums of |x|^2 x and of |x|^4
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("precision", torch.zeros(width, width))

    @torch.no_grad()
    def add(self, samples: Float[Tensor, "n d"], weight: Float[Tensor, " n"]) -> None:
        """Add samples, those of all processes, to the moments.

        Args:
            samples: a row each.
            weight: 1 for a sample that counts, 0 for one that does not.
        """
        rows = (samples * weight[:, None]).double()  # a small variance is a difference of moments
        square = rows.square().sum(1)
        sums = (weight.sum(), rows.sum(0), rows.T @ rows, square @ rows, square.square().sum())
        for moment, value in zip(self._moments(), sums, strict=True):
            moment.add_(sum_over_processes(value.double()))

    @torch.no_grad()
    def fit(self) -> None:
        """Take mean and precision from the moments, and forget those; nothing without samples."""
        if float(self.count) < 2:  # noqa: PLR2004  # of one sample there is no covariance
            return
        mean, covariance = ledoit_wolf(*self._moments())
        self.mean.copy_(mean)
        self.precision.copy_(torch.linalg.pinv(covariance, hermitian=True))
        for moment in self._moments():
            moment.zero_()

    def distance(self, samples: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """Return Mahalanobis' distance of each sample."""
        away = samples - self.mean
        return ((away @ self.precision) * away).sum(-1).clamp(min=0).sqrt()

    def _moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return (self.count, self.first, self.second, self.third, self.fourth)


def ledoit_wolf(
    count: Float[Tensor, ""],
    first: Float[Tensor, " d"],
    second: Float[Tensor, "d d"],
    third: Float[Tensor, " d"],
    fourth: Float[Tensor, ""],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return mean and shrunk covariance of samples of which the moments are known.

    Args:
        count: samples.
        first: sum of the samples x.
        second: sum of x x^T.
        third: sum of |x|^2 x.
        fourth: sum of |x|^4.
    """
    mean = first / count
    covariance = second / count - mean.outer(mean)
    spread = covariance.diagonal().mean()
    length = mean @ mean
    square = second.diagonal().sum()
    # the sum of |x - mean|^4, multiplied out
    centred = fourth - 4 * mean @ third + 4 * mean @ second @ mean + 2 * length * square
    centred = centred - 3 * count * length.square()
    scatter = covariance.square().sum()
    noise = (centred / count - scatter) / count
    distance = scatter - len(first) * spread.square()
    shrinkage = torch.where(distance > 0, (noise / distance).clamp(0, 1), 0)
    unit = torch.eye(len(first), dtype=covariance.dtype, device=covariance.device)
    return mean, (1 - shrinkage) * covariance + shrinkage * spread * unit


def consistency_loss(
    attention: Float[Tensor, "b p p"],
    target: Int[Tensor, " b"],
    forged: Bool[Tensor, "b p"],
    same_out: Float[Tensor, ""],
    same_in: Float[Tensor, ""],
    across: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return how far attention between patches lies from what their kinds ask for.

    The mean over real pictures plus that over fakes; each is 0 if the joined batch has none. The
    authors fill each picture's target row by row; here it is an outer product.

    Args:
        attention: between patches, in (0, 1).
        target: 1 = fake, 0 = real.
        forged: which patches count as forged; of real pictures none does.
        same_out: wanted between genuine patches; a real picture's patch and itself want 1.
        same_in: wanted between forged patches.
        across: wanted between the kinds.
    """
    fake = target == 1
    inside = (forged & fake[:, None]).to(attention.dtype)
    outside = 1 - inside
    both, neither = _outer(inside), _outer(outside)
    wanted = same_in * both + same_out * neither + across * (1 - both - neither)
    p = attention.shape[1]
    itself = torch.eye(p, dtype=torch.bool, device=attention.device) & ~fake[:, None, None]
    wanted = torch.where(itself, wanted.new_ones(()), wanted)
    error = (attention - wanted).abs().sum((1, 2)) / (p * p - p)
    kinds = torch.stack([~fake, fake]).to(error.dtype)
    sums, counts = sum_over_processes(kinds @ error), sum_over_processes(kinds.sum(1))
    return (sums / counts.clamp(min=1)).sum()


def _outer(values: Float[Tensor, "b p"]) -> Float[Tensor, "b p p"]:
    return values[:, :, None] * values[:, None]


def _patch_weights(
    attention: Float[Tensor, "b p"], done: Float[Tensor, ""] | None
) -> Float[Tensor, "b p"]:
    """Blend from 1 to the attention as training goes on."""
    if done is None:
        done = torch.ones((), device=attention.device)
    even = torch.sigmoid(-_BLEND_SLOPE * (done - _BLEND_MIDDLE)).to(attention.dtype)
    even = torch.where(done < _PLAIN_UNTIL, torch.ones_like(even), even)
    return even + (1 - even) * attention


def _first_of(
    patches: Float[Tensor, "b p d"], chosen: Bool[Tensor, " b"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """Rows of the first chosen pictures of the joined batch, as far as they are this process's.

    Returns:
        Rows of a fixed number of pictures, and 1 for those that were meant.
    """
    joined = join_over_processes(chosen.to(torch.int64))
    early = (joined == 1) & (joined.cumsum(0) <= _FACES_A_BATCH)
    if process_count() > 1:
        rank = torch.distributed.get_rank()
        early = early[rank * len(chosen) : (rank + 1) * len(chosen)]
    order = (~early).to(torch.uint8).argsort(stable=True)[:_FACES_A_BATCH]
    weight = early[order].to(patches.dtype)[:, None].expand(-1, patches.shape[1])
    return patches[order].flatten(0, 1), weight.flatten()
