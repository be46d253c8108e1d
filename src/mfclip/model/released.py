"""The authors' released network (`model.released = true`): the paper's boxes as they were coded.

Facts are those of the authors' files, written anew. It is there so that whoever has their weights
can load them. What differs from the boxes beside this file, and what each difference changes, is
tabled in docs/concepts.md.
Axes: b images, n tokens, d width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.layers.transformer import Attention, Block, QuickGELU, TokenTransformer
from mfclip.model.fle import FineGrainedLanguageEncoder, PackedPrompts
from mfclip.model.mfclip import MFCLIP
from mfclip.model.mve import MultiModalVisionEncoder
from mfclip.model.patch_selector import homogeneity
from mfclip.model.srm import TRUNCATION, srm_kernels
from mfclip.model.tokenizer import END_ID

SLOTS = 24
"""Places in a batch that have a position of their own."""


class ReleasedMFCLIP(MFCLIP):
    """MFCLIP out of the released parts. A score depends on the place in the batch."""

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights; parts that the settings switch off are left out."""
        out = {}
        for name, value in tensors.items():
            here = name.removeprefix("module.")
            for pattern, ours in _PUBLISHED:
                here = re.sub(pattern, ours, here)
            # theirs multiplies from the right
            out[here] = value.T.contiguous() if here == _PROJECTION else value
        parts = {
            "language_encoder.": self.language_encoder,
            "contrastive.": self.contrastive,
            "predictor.": self.predictor,
        }
        # a part that is there takes all of its tensors: one too many is another depth, not to be
        # passed over
        absent = tuple(name for name, part in parts.items() if part is None)
        return {k: v for k, v in out.items() if not k.startswith(absent)}


class ReleasedVisionEncoder(MultiModalVisionEncoder):
    """MVE as released: height and width of the picture swapped, levels of 0 to 255 for IE."""

    srm: Tensor

    def __init__(self, *args: nn.Module | None, patch_size: int, pixel_scale: float) -> None:
        super().__init__(*args, patch_size=patch_size, pixel_scale=pixel_scale)  # type: ignore[arg-type]
        # each filter stands for red, green and blue; stored, since the authors' file holds it
        self.register_buffer("srm", srm_kernels()[:, None].repeat(1, 3, 1, 1))

    def scale_pixels(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 w h"]:
        """Turn pixel values in [0, 1] into what the image encoder takes: levels, transposed."""
        return images.transpose(2, 3) * 255

    def noise(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 p p"], Int[Tensor, " b"]]:
        """Return the SRM noise of each image's richest patch, and the patch's index."""
        with torch.autocast(images.device.type, enabled=False):
            patches, index = select_by_truncated_grey(images.float(), self.patch_size)
            levels = patches * self.pixel_scale
            residual = functional.conv2d(levels, self.srm.float(), padding=2)  # black border
            return residual.clamp(-TRUNCATION, TRUNCATION), index


def select_by_truncated_grey(
    images: Float[Tensor, "b 3 h w"], patch_size: int
) -> tuple[Float[Tensor, "b 3 p p"], Int[Tensor, " b"]]:
    """Select the richest patch as `mfclip.model.patch_selector` does, grey levels cut off.

    The weights of grey add up to 0.9999, so that every even surface loses a level.

    Args:
        images: RGB, pixel values in [0, 1].
        patch_size: p, side of a patch in pixels.
    """
    red, green, blue = images.unbind(1)
    grey = ((0.2989 * red + 0.587 * green + 0.114 * blue) * 255).to(torch.uint8)
    p, (height, width) = patch_size, (int(side) for side in images.shape[2:])
    rows, columns = height // p, width // p
    # b c (h p) (w p) -> b (h w) c p p
    whole = torch.cat([images, grey[:, None]], dim=1)[..., : rows * p, : columns * p]
    tiles = whole.reshape(-1, 4, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    index = homogeneity(tiles[:, :, 3].to(torch.uint8)).argmin(1)
    chosen = index[:, None, None, None, None].expand(-1, 1, 3, p, p)
    return tiles[:, :, :3].gather(1, chosen)[:, 0], index


class ReleasedTokenTransformer(TokenTransformer):
    """One token and a class token, with positions by place in the batch and no norm at the end.

    Both tokens of a picture get the same position: that of its place. The authors' code fails
    beyond 24 pictures; here the places repeat, as if the pictures came in batches of 24.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        depth: int,
        embed_dim: int,
        *,
        num_heads: int,
        mlp_ratio: float,
    ) -> None:
        super().__init__(channels, side, depth, embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio)
        self.class_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.positions = nn.Parameter(torch.randn(SLOTS, 1, embed_dim))
        self.norm = nn.Identity()
        for block in self.transformer.blocks:
            assert isinstance(block, Block)
            block.attention = _ReleasedAttention(embed_dim, num_heads)

    def forward(
        self,
        features: Float[Tensor, "b c h w"],
        extra: None = None,  # type: ignore[override]  # noqa: ARG002 - it has none
    ) -> Float[Tensor, "b d"]:
        """Project, channels last; add class token and positions, mix, return the class token."""
        token = self.projection(features.permute(0, 2, 3, 1).flatten(1))[:, None]
        tokens = torch.cat([self.class_token.expand(token.shape[0], -1, -1), token], dim=1)
        # 0, 1, 2... without asking for the batch's size, which engines leave open
        slot = (torch.ones_like(token[:, 0, 0], dtype=torch.int64).cumsum(0) - 1) % SLOTS
        out: Tensor = self.transformer(tokens + self.positions[slot])[:, 0]
        return out


class _ReleasedAttention(Attention):
    """Without biases before it, scaled by the whole width and not by a head's."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__(embed_dim, num_heads)
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=False)

    def forward(self, tokens: Float[Tensor, "b n d"], *, causal: bool) -> Float[Tensor, "b n d"]:
        """Mix the tokens."""
        q, k, v = (
            part.reshape(*part.shape[:2], self.num_heads, -1).transpose(1, 2)  # b h n d/h
            for part in self.in_proj(tokens).chunk(3, dim=-1)
        )
        scale = tokens.shape[-1] ** -0.5
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class ReleasedLanguageEncoder(FineGrainedLanguageEncoder):
    """FLE as released: CLIP's activation, and read at the end-of-text of level 1.

    The transformer is causal, so that what stands behind that place, which is levels 2 to 4 and all
    padding, cannot reach it: only level 1 is computed.
    """

    def __init__(self, *args: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        d, depth = self.projection.in_features, len(self.transformer.blocks)
        deviations = {  # CLIP's: what is added to the stream shrinks with the depth
            "attention.in_proj": d**-0.5,
            "attention.out_proj": d**-0.5 * (2 * depth) ** -0.5,
            "mlp.wide": (2 * d) ** -0.5,
            "mlp.narrow": d**-0.5 * (2 * depth) ** -0.5,
        }
        for block in self.transformer.blocks:
            assert isinstance(block, Block)
            block.mlp.activation = QuickGELU()
            for name, deviation in deviations.items():
                nn.init.normal_(block.get_parameter(f"{name}.weight"), std=deviation)
            for name in ("attention.in_proj", "attention.out_proj"):
                nn.init.zeros_(block.get_parameter(f"{name}.bias"))

    def encode_packed(self, prompts: PackedPrompts) -> Float[Tensor, "b d"]:
        """Encode level 1 of prompts whose padding has been dropped."""
        last = (prompts.ids == END_ID).to(torch.uint8).argmax(1)
        length = int(last.max()) + 1
        level = PackedPrompts(prompts.ids[:, :length], prompts.positions[:, :length], last)
        return super().encode_packed(level)


_PROJECTION = "language_encoder.projection.weight"

_BLOCKS = (
    (r"\.layers\.(\d+)\.0\.fn\.norm\.", r".blocks.\1.norm1."),
    (r"\.layers\.(\d+)\.0\.fn\.fn\.to_qkv\.", r".blocks.\1.attention.in_proj."),
    (r"\.layers\.(\d+)\.0\.fn\.fn\.to_out(\.0)?\.", r".blocks.\1.attention.out_proj."),
    (r"\.layers\.(\d+)\.1\.fn\.norm\.", r".blocks.\1.norm2."),
    (r"\.layers\.(\d+)\.1\.fn\.fn\.net\.0\.", r".blocks.\1.mlp.wide."),
    (r"\.layers\.(\d+)\.1\.fn\.fn\.net\.2\.", r".blocks.\1.mlp.narrow."),
)
_PUBLISHED = (
    (r"^visual\.features\.", "vision_encoder.image_encoder.stages."),
    (r"^visual\.features_SRM\.", "vision_encoder.noise_encoder.stages."),
    (r"^visual\.patch_to_embedding\.", "vision_encoder.image_encoder.token.projection."),
    (r"^visual\.patchsrm_to_embedding\.", "vision_encoder.noise_encoder.token.projection."),
    (r"^visual\.cls_token$", "vision_encoder.image_encoder.token.class_token"),
    (r"^visual\.cls_token_rm$", "vision_encoder.noise_encoder.token.class_token"),
    (r"^visual\.pos_embedding$", "vision_encoder.image_encoder.token.positions"),
    (r"^visual\.pos_embedding_srm$", "vision_encoder.noise_encoder.token.positions"),
    (r"^visual\.transformer\.", "vision_encoder.image_encoder.token.transformer."),
    (r"^visual\.transformer_srm\.", "vision_encoder.noise_encoder.token.transformer."),
    (r"^visual\.SRM\.kernel$", "vision_encoder.srm"),
    *_BLOCKS,
    (r"^transformer\.resblocks\.", "language_encoder.transformer.blocks."),
    (r"\.attn\.in_proj_", ".attention.in_proj."),
    (r"\.attn\.out_proj\.", ".attention.out_proj."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.wide."),
    (r"\.mlp\.c_proj\.", ".mlp.narrow."),
    (r"^token_embedding\.", "language_encoder.token_embedding."),
    (r"^positional_embedding$", "language_encoder.positions"),
    (r"^ln_final\.", "language_encoder.norm."),
    (r"^text_projection$", _PROJECTION),
    (r"^SPA$", "contrastive.attention.weight"),
    (r"^logit_scale$", "log_logit_scale"),
    (r"^mlp_head\.0\.", "head.0."),
    (r"^mlp_head\.1\.", "head.2."),
)
"""Patterns of the authors' names, tried in this order, and what stands for them here."""
