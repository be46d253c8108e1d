"""GenD: a large tower of which only the layer norms learn, and features spread over a sphere.

Source: Yermakov et al., "Deepfake Detection that Generalizes Across Benchmarks", WACV 2026 (arXiv
2508.06248); facts from the authors' repository (yermandy/GenD, MIT licence), written anew. The
towers are timm's (Apache-2.0). 303.18 M parameters with CLIP's ViT-L/14, of which 104,450 learn;
315.78 M and 106,498 with PE's ViT-L/14 at 224 px.
Axes: b images, d width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.collectives import join_over_processes
from mfclip.layers.sphere import alignment_loss, uniformity_loss
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision

MAX_DEPTH = 1000
"""Most blocks; a damaged file may name a billion."""

_SCALING = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "pe": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation of the pixels that each tower was trained on."""

_EPSILON = 1e-5
_PE_SIDE = 24  # patches of a side that PE's rotations were trained on
_PE_POOL_HEADS = 8


class GenD(nn.Module):
    """The image tower of CLIP or PE, its features brought to length 1, a linear layer.

    The loss is the cross-entropy, plus how near the pairs of one class lie to each other
    (alignment), plus how unevenly all features lie on the sphere (uniformity). Pairs are those of
    the joined batch of all processes; with ``train.accumulate`` above 1 those of a part.

    Published training: AdamW 3e-4 to 1e-5 in cosines of 10 epochs, no decay, 30 epochs, a fake
    beside the real face it was made from, margin 1.3, weights of the tower as published; see
    ``configs/baselines/gend.toml``. With all weights learning the authors saw the mean over their
    test sets fall to about 57.

    Left out: the towers of the DINO family.

    Args:
        image_size: side of the input in pixels; a multiple of `patch_size`.
        tower: ``clip``, or ``pe`` (the perception encoder), whose patches are pooled by attention.
        patch_size: side of a patch in pixels.
        width: d; a multiple of `num_heads` and of 8.
        depth: blocks.
        num_heads: attention heads.
        learn: ``norms``: the layer norms and the last layer, and so needs weights; or ``all``.
        uniformity_weight: of the spread of all pairs.
        alignment_weight: of the distance of pairs of one class.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: sizes that do not fit together, or a negative weight.
        MissingExtraError: timm is not installed.
    """

    mean: Tensor
    deviation: Tensor
    compiled = ("tower",)

    def __init__(  # noqa: PLR0913 - the sizes of the tower
        self,
        *,
        image_size: int = 224,
        tower: Literal["clip", "pe"] = "clip",
        patch_size: int = 14,
        width: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        learn: Literal["norms", "all"] = "all",
        uniformity_weight: float = 0.5,
        alignment_weight: float = 0.1,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if min(patch_size, width, depth, num_heads) < 1 or depth > MAX_DEPTH:
            raise ConfigError(
                "expected patch_size, width, depth and num_heads of at least 1, and a depth of at "
                f"most {MAX_DEPTH}, but got {patch_size}, {width}, {depth}, {num_heads}"
            )
        if image_size % patch_size or width % num_heads or width % (4 * _PE_POOL_HEADS):
            raise ConfigError(
                "expected image_size to be a multiple of patch_size and width of num_heads and of "
                f"{4 * _PE_POOL_HEADS}, but got {image_size} and {patch_size}, {width} and "
                f"{num_heads}"
            )
        if min(uniformity_weight, alignment_weight) < 0:
            raise ConfigError(
                "expected weights of at least 0, but got "
                f"{uniformity_weight} and {alignment_weight}"
            )
        self.image_size = image_size
        self.learn = learn
        self.uniformity_weight = uniformity_weight
        self.alignment_weight = alignment_weight
        self.loss_settings = loss_settings or LossSettings()
        build = _build_clip if tower == "clip" else _build_pe
        self.tower: Any = build(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            num_classes=0,
        )
        self.head = nn.Linear(width, 2)
        mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in _SCALING[tower])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        if learn == "norms":
            for name, parameter in self.tower.named_parameters():
                parameter.requires_grad_("norm" in name)

    @property
    def needs_pretrained(self) -> bool:
        """Whether a random tower makes no sense, since it is not trained."""
        return self.learn == "norms"

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode RGB faces with pixel values in [0, 1] as features of length 1."""
        features = self.tower((images - self.mean) / self.deviation)
        return functional.normalize(features, dim=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.head(self.encode(images))
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms: cross-entropy, uniformity, alignment."""
        settings = self.loss_settings
        features = self.encode(batch.images)
        loss = cross_entropy_loss(self.head(features), batch.target, settings.label_smoothing)
        features, target = (join_over_processes(each) for each in (features.float(), batch.target))
        return {
            "cross_entropy": settings.cross_entropy * loss,
            "uniformity": self.uniformity_weight * uniformity_loss(features),
            "alignment": self.alignment_weight * alignment_loss(features, target),
        }

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or those of a tower of timm's as a start."""
        named = {_renamed(name): value for name, value in tensors.items() if not _unused(name)}
        out = _join_attention(named)
        if "tower.cls_token" in out:  # theirs has one axis; timm's three
            out["tower.cls_token"] = out["tower.cls_token"].view(1, 1, -1)
        places = out.get("tower.pos_embed")
        if places is not None:
            places = places.view(1, *places.shape[-2:])
            layers = import_vision("timm.layers")
            side = self.tower.patch_embed.grid_size
            out["tower.pos_embed"] = (
                places
                if places.shape == self.tower.pos_embed.shape
                else layers.resample_abs_pos_embed(places, new_size=list(side))
            )
        own = {k: v for k, v in self.state_dict().items() if k.startswith("head.")}
        return {**own, **out}


def _build_clip(**sizes: Any) -> nn.Module:
    """CLIP's image tower with OpenAI's activation; the class token is its feature."""
    timm = import_vision("timm.models.vision_transformer")
    norm = partial(import_vision("timm.layers").LayerNorm, eps=_EPSILON)
    tower: nn.Module = timm.VisionTransformer(
        **sizes, pre_norm=True, norm_layer=norm, act_layer="quick_gelu"
    )
    return tower


def _build_pe(**sizes: Any) -> nn.Module:
    """The perception encoder's image tower, its patches pooled by attention."""
    timm = import_vision("timm.models.eva")
    norm = partial(import_vision("timm.layers").LayerNorm, eps=_EPSILON)
    tower: nn.Module = timm.Eva(
        **sizes,
        mlp_ratio=4.0,
        global_pool="map",
        attn_type="rope",
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(_PE_SIDE, _PE_SIDE),
        rope_grid_offset=1.0,
        rope_grid_indexing="xy",
        attn_pool_num_heads=_PE_POOL_HEADS,
        attn_pool_mlp_ratio=4.0,
        norm_layer=norm,
    )
    return tower


_PUBLISHED = (
    (r"^feature_extractor\.(vision_model|backbone)\.", "tower."),
    (r"^model\.linear\.", "head."),
    # transformers' names of CLIP's tower, and timm's
    (r"^tower\.embeddings\.class_embedding$", "tower.cls_token"),
    (r"^tower\.embeddings\.position_embedding\.weight$", "tower.pos_embed"),
    (r"^tower\.embeddings\.patch_embedding\.", "tower.patch_embed.proj."),
    (r"^tower\.pre_layrnorm\.", "tower.norm_pre."),
    (r"^tower\.post_layernorm\.", "tower.norm."),
    (r"^tower\.encoder\.layers\.", "tower.blocks."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.", ".attn."),
)
"""Patterns of the authors' names, tried in this order, and what stands for them here."""


def _unused(name: str) -> bool:
    """Whether it is CLIP's way to its joint space, a number of a place, or a class of timm's."""
    return name.startswith(("feature_extractor.visual_projection.", "head.")) or name.endswith(
        ".position_ids"
    )


def _renamed(name: str) -> str:
    if not name.startswith(("feature_extractor.", "model.linear.")):
        return f"tower.{name}"
    for pattern, here in _PUBLISHED:
        name = re.sub(pattern, here, name)
    return name


def _join_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join what asks, what answers and what is told to one tensor, as timm keeps them."""
    out = dict(tensors)
    for name in tensors:
        if ".attn.q_proj." in name:
            parts = (name.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj"))
            joined = torch.cat([out.pop(part) for part in parts])
            out[name.replace("q_proj", "qkv")] = joined
    return out
