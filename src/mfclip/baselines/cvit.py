"""CViT: a VGG-like stack of convolutions, one token, a transformer.

Source: Wodajo and Atnafu, "Deepfake Video Detection Using Convolutional Vision Transformer", arXiv
2102.11126. Written anew from the layers that MFCLIP's image encoder (IE) is made of, no code
ported. 42.58 M parameters at d = 512, 89.01 M as published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.convolution import conv_stages
from mfclip.layers.transformer import TokenTransformer
from mfclip.layers.verdict import cross_entropy_loss

_PUBLISHED_HIDDEN = 2048
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def build_encoder(
    *,
    image_size: int = 224,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    convs: Sequence[int] = (3, 3, 3, 4, 4),
    depth: int = 6,
    embed_dim: int = 512,
    num_heads: int = 8,
    mlp_ratio: float = 4.0,
    shared_projection: bool = False,
) -> nn.Module:
    """Build the stages and the transformer: MFCLIP's image encoder, under the same names.

    Args:
        image_size: side of the input in pixels; a multiple of 2 to the number of stages.
        widths: channels of each convolution stage.
        convs: convolutions in each stage.
        depth: transformer blocks.
        embed_dim: d, width of a token.
        num_heads: attention heads.
        mlp_ratio: hidden width of the transformer's perceptron over d.
        shared_projection: see `TokenTransformer`.

    Raises:
        ConfigError: sizes that do not fit together.
    """
    if len(widths) != len(convs) or not widths or embed_dim % num_heads:
        raise ConfigError(
            "expected as many image.widths as image.convs and embed_dim to be a multiple of "
            f"num_heads, but got {widths} and {convs}, {embed_dim} and {num_heads}"
        )
    token = TokenTransformer(
        widths[-1],
        _side_behind(image_size, len(widths)),
        depth,
        embed_dim,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        shared_projection=shared_projection,
    )
    # the first layer stays in float32 under autocast, as in MFCLIP's encoder
    return _Encoder(conv_stages(3, widths, convs, full_precision_start=True), token)


class _Encoder(nn.Module):
    def __init__(self, stages: nn.Sequential, token: TokenTransformer) -> None:
        super().__init__()
        self.stages = stages
        self.token = token

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        features: Tensor = self.token(self.stages(images))
        return features


class ConvolutionalVisionTransformer(nn.Module):
    """Convolution stages, one token and a class token through a transformer, a head (CViT).

    With the default ``linear`` head it is MFCLIP's image branch and head, which the MFCLIP paper
    calls CViT: its Table VI ("IE") and Table III ("CViT") agree digit for digit. As published by
    CViT's authors it has ``embed_dim=1024, mlp_ratio=2`` and the ``mlp`` head, and is trained with
    Adam 1e-4, weight decay 1e-7, lr / 10 every 15 epochs, batch 32.

    Differs from the CViT paper: pictures are scaled to [-1, 1] and not by ImageNet's mean and
    deviation; the transformer ends in a layer norm. ``published`` undoes both, and with it the
    authors' weights give their scores. In the first version of their code positions belong to the
    place in the batch; of such a file the first place's is taken.

    Args:
        encoder: from `build_encoder`.
        embed_dim: d of the encoder.
        image_size: side of the input in pixels.
        dropout: share of the features dropped before the last layer while training.
        head: ``linear``, on L2-normalised features as MFCLIP's, or ``mlp``, CViT's own.
        published: normalise the input as CViT's authors do, and leave out the last norm.
        loss_settings: weight and smoothing of the cross-entropy.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        *,
        embed_dim: int = 512,
        image_size: int = 224,
        dropout: float = 0.0,
        head: Literal["linear", "mlp"] = "linear",
        published: bool = False,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        self.encoder = encoder
        mean, deviation = (_MEAN, _DEVIATION) if published else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(3, 1, 1), persistent=False)
        if published:
            encoder.get_submodule("token").norm = nn.Identity()
        self.normalises = head == "linear"
        build_head = _linear_head if head == "linear" else _mlp_head
        self.head = build_head(embed_dim, dropout)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        features = self.encoder((images - self.mean) / self.deviation).float()
        if self.normalises:
            features = functional.normalize(features, dim=-1)
        logits: Tensor = self.head(features)
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy."""
        settings = self.loss_settings
        loss = cross_entropy_loss(self(batch.images), batch.target, settings.label_smoothing)
        return {"cross_entropy": settings.cross_entropy * loss}

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the weights of CViT's authors, whose first column means fake."""
        out = {}
        for name, value in tensors.items():
            here = name.removeprefix("module.")
            for pattern, ours in _PUBLISHED:
                here = re.sub(pattern, ours, here)
            out[here] = value
        for name in [name for name in out if name.endswith("in_proj.weight")]:
            queries, keys, values = out[name].chunk(3)
            # they scale scores by the whole width, not by a head's
            block = self.get_submodule(name.removesuffix(".in_proj.weight"))
            queries = queries * int(getattr(block, "num_heads", 1)) ** -0.5
            out[name] = torch.cat([queries, keys, values])
            out[f"{name.removesuffix('weight')}bias"] = out[name].new_zeros(len(out[name]))
        if (name := "encoder.token.projection.weight") in out:
            channels = self._channels
            side = round((out[name].shape[1] / channels) ** 0.5)
            places_first = out[name].view(-1, side, side, channels)
            out[name] = places_first.permute(0, 3, 1, 2).flatten(1)
        if (name := "encoder.token.positions") in out:
            by_place = out[name].shape[1] == 1
            out[name] = out[name][:1].expand(-1, 2, -1) if by_place else out[name][:, :2]
        for name in ("head.3.weight", "head.3.bias"):
            if name in out:
                out[name] = out[name].flip(0)
        return out

    @property
    def _channels(self) -> int:
        """Channels of the map that becomes the token."""
        stages = self.encoder.get_submodule("stages").modules()
        return [part.out_channels for part in stages if isinstance(part, nn.Conv2d)][-1]


_PUBLISHED = (
    (r"^features\.", "encoder.stages."),
    (r"^patch_to_embedding\.", "encoder.token.projection."),
    (r"^cls_token$", "encoder.token.class_token"),
    (r"^pos_embedding$", "encoder.token.positions"),
    (r"^transformer\.layers\.(\d+)\.0\.fn\.norm\.", r"encoder.token.transformer.blocks.\1.norm1."),
    (
        r"^transformer\.layers\.(\d+)\.0\.fn\.fn\.to_qkv\.",
        r"encoder.token.transformer.blocks.\1.attention.in_proj.",
    ),
    (
        r"^transformer\.layers\.(\d+)\.0\.fn\.fn\.to_out\.",
        r"encoder.token.transformer.blocks.\1.attention.out_proj.",
    ),
    (r"^transformer\.layers\.(\d+)\.1\.fn\.norm\.", r"encoder.token.transformer.blocks.\1.norm2."),
    (
        r"^transformer\.layers\.(\d+)\.1\.fn\.fn\.net\.0\.",
        r"encoder.token.transformer.blocks.\1.mlp.wide.",
    ),
    (
        r"^transformer\.layers\.(\d+)\.1\.fn\.fn\.net\.2\.",
        r"encoder.token.transformer.blocks.\1.mlp.narrow.",
    ),
    (r"^mlp_head\.0\.", "head.0."),
    (r"^mlp_head\.2\.", "head.3."),  # a dropout stands before it here
)
"""Patterns of the authors' names, and what stands for them here."""


def _linear_head(embed_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(embed_dim), nn.Dropout(dropout), nn.Linear(embed_dim, 2))


def _mlp_head(embed_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(embed_dim, _PUBLISHED_HIDDEN),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(_PUBLISHED_HIDDEN, 2),
    )


def _side_behind(image_size: int, stages: int) -> int:
    if image_size % 2**stages:
        raise ConfigError(
            f"expected image_size to be a multiple of {2**stages}, since {stages} stages each "
            f"halve the picture, but got {image_size}"
        )
    side: int = image_size // 2**stages
    return side
