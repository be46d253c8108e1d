"""CEViT: two depths of an EfficientNet as two tokens of a cross-attending transformer.

Source: Coccomini et al., "Combining EfficientNet and Vision Transformers for Video Deepfake
Detection", ICIAP 2022 (Cross Efficient ViT); facts from the authors' repository (MIT licence),
written anew. The convolutions are timm's ``tf_efficientnet_b0`` (Apache-2.0). 94.83 M parameters;
the published file holds 6.55 M more, which nothing uses.
Axes: b images, n tokens, m tokens that are looked at, d width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.verdict import binary_cross_entropy, two_columns
from mfclip.layers.vision_packages import efficientnet_name, import_vision, join_statistics

_HEADS, _HEAD_WIDTH = 8, 64
_ROUNDS = 2
_SMALL_DEPTH, _LARGE_DEPTH = 2, 3
_HALVINGS = 5  # of the picture, by the whole EfficientNet

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class CrossEfficientViT(nn.Module):
    """Fine and coarse features, a token each, that ask one another (CEViT).

    The small branch is a whole EfficientNet-B0, the large one the first three blocks of another,
    each map a single token beside a class token. Both class tokens give a logit; the sum is z.

    Published training: SGD 0.01 without momentum, weight decay 1e-7, lr / 10 every 15 epochs, batch
    16, up to 300 epochs, end after 5 without a lower validation loss, fakes weighted by reals over
    fakes; see ``configs/baselines/cevit.toml``. A video's score is the mean of a face's frames; of
    several faces the first above 0.55 decides, and fake is what lies above 0.6.

    Differs from the authors' code: pixels come as red, green, blue and not reversed (their weights
    are turned on loading), and what they build without using it is left out.

    Args:
        image_size: side of the input in pixels; a multiple of 32.
        width: d of the small branch; the large one is twice as wide.
        depth: times that both branches are encoded and ask one another.
        hidden: width of the perceptrons.
        drop_rate: share dropped behind the tokens, attentions and perceptrons.
        fake_weight: how often a fake counts in the loss; the authors' is reals over fakes.
        normalise: give the convolutions what they saw on ImageNet; the authors give 0 to 255.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: sizes that do not fit together.
        MissingExtraError: timm is not installed.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        image_size: int = 224,
        width: int = 192,
        depth: int = 4,
        hidden: int = 2048,
        drop_rate: float = 0.15,
        fake_weight: float = 1.0,
        normalise: bool = False,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if image_size % 2**_HALVINGS:
            raise ConfigError(
                f"expected image_size to be a multiple of {2**_HALVINGS}, but got {image_size}"
            )
        if min(width, depth, hidden) < 1 or fake_weight <= 0:
            raise ConfigError(
                "expected width, depth and hidden of at least 1 and a fake_weight above 0, but got "
                f"{width}, {depth}, {hidden} and {fake_weight}"
            )
        self.image_size = image_size
        self.fake_weight = fake_weight
        self.loss_settings = loss_settings or LossSettings()
        mean, deviation = (_MEAN, _DEVIATION) if normalise else ((0, 0, 0), (1 / 255,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(3, 1, 1), persistent=False)
        self.small = _Embedder(_efficientnet(whole=True), image_size, width, drop_rate)
        self.large = _Embedder(_efficientnet(whole=False), image_size, 2 * width, drop_rate)
        self.layers = nn.ModuleList(_Layer(width, hidden, drop_rate) for _ in range(depth))
        self.small_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.large_head = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, 1))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return two_columns(self.score(images))

    def score(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Return z, the log-odds of fake."""
        pixels = (images - self.mean) / self.deviation
        small, large = self.small(pixels), self.large(pixels)
        for layer in self.layers:
            small, large = layer(small, large)
        out: Tensor = self.small_head(small[:, 0]) + self.large_head(large[:, 0])
        return out[:, 0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted binary cross-entropy."""
        settings = self.loss_settings
        loss = binary_cross_entropy(
            self.score(batch.images), batch.target, settings.label_smoothing, self.fake_weight
        )
        return {"cross_entropy": settings.cross_entropy * loss}

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or timm's EfficientNet-B0 as a start of both branches."""
        named = {name.removeprefix("module."): value for name, value in tensors.items()}
        own = self.state_dict()
        if "conv_stem.weight" in named:
            start = {
                f"{branch}.network.{name}": value
                for branch in ("small", "large")
                for name, value in named.items()
                if f"{branch}.network.{name}" in own
            }
            return own | start
        out = {_renamed(name): value for name, value in named.items()}
        for branch in ("small", "large"):  # they saw blue first
            stem = f"{branch}.network.conv_stem.weight"
            if stem in out:
                out[stem] = out[stem].flip(1)
        # what nothing uses: two layers of 1000 classes, and the end of the second EfficientNet
        unused = re.compile(r"\w+\.network\.(classifier|blocks\.([2-6])\.|conv_head|bn2)")
        return {name: value for name, value in out.items() if name in own or not unused.match(name)}


def _efficientnet(*, whole: bool) -> nn.Module:
    """EfficientNet-B0 without its last layer, or its stem and first three blocks."""
    timm = import_vision("timm.models.efficientnet")
    network = timm.tf_efficientnet_b0(num_classes=0, drop_path_rate=0.2)
    if not whole:
        network.blocks = network.blocks[:2]  # one block, then two
        network.conv_head = network.bn2 = nn.Identity()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.01  # as the authors' package
    return join_statistics(network)


class _Embedder(nn.Module):
    """A picture to a class token and one token of all features."""

    def __init__(self, network: nn.Module, image_size: int, width: int, drop_rate: float) -> None:
        super().__init__()
        self.network: Any = network
        whole = isinstance(network.conv_head, nn.Conv2d)
        channels, stride = (1280, 32) if whole else (24, 4)
        side = image_size // stride
        self.project = nn.Linear(channels * side * side, width)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        # the authors number patches of the picture; the map is one patch, so two numbers are used
        self.positions = nn.Parameter(torch.randn(1, stride**2 + 1, width))
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        features = self.network.forward_features(pixels)
        token = self.project(features.permute(0, 2, 3, 1).flatten(1))[:, None]
        start = self.class_token.expand(token.shape[0], -1, -1)
        out: Tensor = self.dropout(torch.cat([start, token], dim=1) + self.positions[:, :2])
        return out


class _Layer(nn.Module):
    """Encode both branches, then let each class token ask the other branch's patches."""

    def __init__(self, width: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.small = _Encoder(width, _SMALL_DEPTH, hidden, drop_rate)
        self.large = _Encoder(2 * width, _LARGE_DEPTH, hidden, drop_rate)
        self.small_asks = nn.ModuleList(
            _Question(width, 2 * width, drop_rate) for _ in range(_ROUNDS)
        )
        self.large_asks = nn.ModuleList(
            _Question(2 * width, width, drop_rate) for _ in range(_ROUNDS)
        )

    def forward(
        self, small: Float[Tensor, "b n d"], large: Float[Tensor, "b m e"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m e"]]:
        small, large = self.small(small), self.large(large)
        small_class, small_patches = small[:, :1], small[:, 1:]
        large_class, large_patches = large[:, :1], large[:, 1:]
        for small_asks, large_asks in zip(self.small_asks, self.large_asks, strict=True):
            small_class = small_class + small_asks(small_class, large_patches)
            large_class = large_class + large_asks(large_class, small_patches)
        return (
            torch.cat([small_class, small_patches], dim=1),
            torch.cat([large_class, large_patches], dim=1),
        )


class _Question(nn.Module):
    """A class token, brought to the other branch's width, looks at its patches and at itself."""

    def __init__(self, width: int, other: int, drop_rate: float) -> None:
        super().__init__()
        self.enter = nn.Linear(width, other)
        self.norm = nn.LayerNorm(other)
        self.attention = _Attention(other, drop_rate)
        self.leave = nn.Linear(other, width)

    def forward(
        self, token: Float[Tensor, "b 1 d"], patches: Float[Tensor, "b n e"]
    ) -> Float[Tensor, "b 1 d"]:
        token = self.norm(self.enter(token))
        out: Tensor = self.leave(self.attention(token, torch.cat([token, patches], dim=1)))
        return out


class _Encoder(nn.Module):
    """Pre-norm blocks and a final norm."""

    def __init__(self, width: int, depth: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "attention": _Attention(width, drop_rate),
                    "norm2": nn.LayerNorm(width),
                    "mlp": nn.Sequential(
                        nn.Linear(width, hidden),
                        nn.GELU(),
                        nn.Dropout(drop_rate),
                        nn.Linear(hidden, width),
                        nn.Dropout(drop_rate),
                    ),
                }
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        for block in self.blocks:
            parts: Any = block
            normed = parts.norm1(tokens)
            tokens = tokens + parts.attention(normed, normed)
            tokens = tokens + parts.mlp(parts.norm2(tokens))
        out: Tensor = self.norm(tokens)
        return out


class _Attention(nn.Module):
    """Attention without biases before it; its width is that of its heads, whatever d is."""

    def __init__(self, width: int, drop_rate: float) -> None:
        super().__init__()
        inner = _HEADS * _HEAD_WIDTH
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(drop_rate)

    def forward(
        self, tokens: Float[Tensor, "b n d"], context: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n d"]:
        q, k, v = (
            part.reshape(*part.shape[:2], -1, _HEAD_WIDTH).transpose(1, 2)  # b heads n 64
            for part in (self.query(tokens), *self.key_value(context).chunk(2, dim=-1))
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return out


_PUBLISHED = (
    (r"^sm_image_embedder\.", "small."),
    (r"^lg_image_embedder\.", "large."),
    (r"\.efficient_net\.", ".network."),
    (r"\.to_patch_embedding\.1\.", ".project."),
    (r"\.cls_token$", ".class_token"),
    (r"\.pos_embedding$", ".positions"),
    (r"^multi_scale_encoder\.layers\.(\d+)\.0\.", r"layers.\1.small."),
    (r"^multi_scale_encoder\.layers\.(\d+)\.1\.", r"layers.\1.large."),
    (r"^multi_scale_encoder\.layers\.(\d+)\.2\.layers\.(\d+)\.0\.", r"layers.\1.small_asks.\2."),
    (r"^multi_scale_encoder\.layers\.(\d+)\.2\.layers\.(\d+)\.1\.", r"layers.\1.large_asks.\2."),
    (r"\.project_in\.", ".enter."),
    (r"\.project_out\.", ".leave."),
    (r"_asks\.(\d+)\.fn\.norm\.", r"_asks.\1.norm."),
    (r"_asks\.(\d+)\.fn\.fn\.", r"_asks.\1.attention."),
    (r"\.layers\.(\d+)\.0\.norm\.", r".blocks.\1.norm1."),
    (r"\.layers\.(\d+)\.0\.fn\.", r".blocks.\1.attention."),
    (r"\.layers\.(\d+)\.1\.norm\.", r".blocks.\1.norm2."),
    (r"\.layers\.(\d+)\.1\.fn\.net\.", r".blocks.\1.mlp."),
    (r"\.to_q\.", ".query."),
    (r"\.to_kv\.", ".key_value."),
    (r"\.to_out\.0\.", ".out."),
    (r"^sm_mlp_head\.", "small_head."),
    (r"^lg_mlp_head\.", "large_head."),
)
"""Patterns of the authors' names, tried in this order, and what stands for them here."""

_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-B0."""


def _renamed(name: str) -> str:
    for pattern, here in _PUBLISHED:
        name = re.sub(pattern, here, name)
    start, network, rest = name.partition(".network.")
    return f"{start}{network}{efficientnet_name(rest, _STAGES)}" if network else name
