"""FatFormer: CLIP with adapters that look at wavelet bands, and sentences that look at the picture.

Source: Liu et al., "Forgery-aware Adaptive Transformer for Generalizable Synthetic Image
Detection", CVPR 2024; facts from the authors' repository (Michel-liu/FatFormer, Apache-2.0),
written anew. 492.59 M parameters with the three adapters of the published weights.

Neighbouring packages do not import each other, so the ids of the two sentences come from
`mfclip.detectors`, which knows the tokenizer.
Axes: b pictures, n tokens, d width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.layers.transformer import Block, QuickGELU, Transformer
from mfclip.layers.verdict import cross_entropy_loss

VOCABULARY = 49408
"""Ids of CLIP's tokenizer."""

CONTEXT = 8
"""Learned words before "real." and "fake."; their places hold the id of "x"."""

SENTENCES = tuple(" ".join(["x"] * CONTEXT) + f" {verdict}." for verdict in ("real", "fake"))
"""What the tokenizer is asked for, real first."""

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_HEAD_WIDTH = 64
_GROUPS = 128
_IMAGE_PART = 0.1
_DROPOUT = 0.1
_CONTEXT_LENGTH = 77


class FatFormer(nn.Module):
    """The verdict is the nearer of two sentences, to the class token and to the patches.

    1. The image tower is CLIP's, with an adapter behind the attention of every eighth block: a
       bottleneck on the tokens, and attention among and inside the bands of a Haar transform.
    2. Eight learned words attend to the picture's tokens and stand before "real." and "fake.".
       Each picture so has two sentences of its own, which pass the text tower.
    3. The patches attend to the two sentences; their mean is compared with them, too.

    The authors never released their training. Their weights have 3 adapters; 8, the default of
    their code, is another network. Paper: lr 4e-4, with which a user saw it diverge; others
    (ForensicHub) trained all parameters with AdamW 2e-5. See ``configs/baselines/fatformer.toml``.

    Args:
        class_ids: ids of `SENTENCES`.
        image_size: side of the input in pixels; `image_size` / `patch_size` must be even.
        patch_size: side of a patch in pixels.
        width: of the image tower; a multiple of 128.
        depth: blocks of the image tower; a multiple of `adapters`.
        text_width: of the text tower and of the joint space; a multiple of 64.
        text_depth: blocks of the text tower.
        adapters: how many blocks have one, the last of each equal part.
        bottleneck: width inside an adapter's image part.
        learn: ``all``, or ``adapters``: adapters, words and what attends; CLIP stays as it is and
            so needs weights.
        loss_settings: weight and smoothing of the cross-entropy.

    Raises:
        ConfigError: sizes that do not fit together.
    """

    class_ids: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(  # noqa: PLR0913 - the sizes of two towers
        self,
        class_ids: Int[Tensor, "2 context"],
        *,
        image_size: int = 224,
        patch_size: int = 14,
        width: int = 1024,
        depth: int = 24,
        text_width: int = 768,
        text_depth: int = 12,
        adapters: int = 3,
        bottleneck: int = 64,
        learn: Literal["adapters", "all"] = "all",
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        side, rest = divmod(image_size, max(patch_size, 1))
        if rest or side % 2 or width % _GROUPS or text_width % _HEAD_WIDTH or not width:
            raise ConfigError(
                "expected image_size to be an even multiple of patch_size, width a multiple of "
                f"{_GROUPS} and text_width of {_HEAD_WIDTH}, but got {image_size} and "
                f"{patch_size}, {width} and {text_width}"
            )
        if adapters < 1 or depth % adapters:
            raise ConfigError(
                f"expected depth to be a multiple of adapters, but got {depth} and {adapters}"
            )
        self.image_size = image_size
        self.learn = learn
        self.loss_settings = loss_settings or LossSettings()
        self.register_buffer("class_ids", class_ids, persistent=False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)
        places = [(i + 1) * (depth // adapters) - 1 for i in range(adapters)]
        self.visual = _ImageTower(side, patch_size, width, depth, text_width, places, bottleneck)
        self.text = _TextTower(text_width, text_depth)
        self.context = nn.Parameter(torch.randn(CONTEXT, text_width) * 0.02)
        heads = text_width // _HEAD_WIDTH
        self.enhancer = _Decoder(text_width, heads)
        self.interactor = _Decoder(text_width, heads)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        if learn == "adapters":
            self.requires_grad_(requires_grad=False)
            self.context.requires_grad_()
            for part in (self.visual.adapters, self.enhancer, self.interactor):
                part.requires_grad_()

    @property
    def needs_pretrained(self) -> bool:
        """Whether random towers make no sense, since they are not trained."""
        return self.learn == "adapters"

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB pictures with pixel values in [0, 1]; column 1 = fake."""
        tokens = self.visual((images - self.mean) / self.deviation)
        words = self.enhancer(self.context.expand(tokens.shape[0], -1, -1), tokens)
        sentences = self.text(words, self.class_ids)
        patches = self.interactor(tokens[:, 1:], sentences).mean(1)
        unit = functional.normalize(sentences.float(), dim=-1)
        both = functional.normalize(tokens[:, 0].float(), dim=-1)
        both = both + functional.normalize(patches.float(), dim=-1)
        logits: Tensor = self.logit_scale.exp() * (unit @ both[:, :, None])[:, :, 0]
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy."""
        settings = self.loss_settings
        loss = cross_entropy_loss(self(batch.images), batch.target, settings.label_smoothing)
        return {"cross_entropy": settings.cross_entropy * loss}

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the authors' weights, or CLIP's as a start of both towers."""
        named, own = {}, self.state_dict()
        for name, value in tensors.items():
            here = re.sub(r"^(module\.)?(clip_model\.)?", "", name)
            if not here.startswith(("image_encoder.", "text_encoder.")):  # the same, named twice
                for pattern, ours in _PUBLISHED:
                    here = re.sub(pattern, ours, here)
                # convolutions of one place are linear layers here
                named[here] = (
                    value[..., 0] if here.endswith(("down.weight", "up.weight")) else value
                )
        prefix, suffix = (named.pop(f"words.token_{end}", None) for end in ("prefix", "suffix"))
        if prefix is not None and suffix is not None:  # their code reads these and not the table
            ids, table = self.class_ids, named["text.token_embedding.weight"].clone()
            table[ids[:, :1]] = prefix
            table[ids[:, 1 + CONTEXT :]] = suffix
            named["text.token_embedding.weight"] = table
        if "context" in named:
            return named
        towers = ("visual.adapters.", "enhancer.", "interactor.", "context")
        return named | {k: v for k, v in own.items() if k.startswith(towers)}


class ForgeryAdapter(nn.Module):
    """What is added to a block's output: a bottleneck, and the bands of a wavelet transform.

    Args:
        width: d; a multiple of 128, the groups of its norm.
        bottleneck: width of the image part.
        num_heads: of the attention among bands and places.
    """

    def __init__(self, width: int, bottleneck: int = 64, num_heads: int = 8) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.dropout = nn.Dropout(_DROPOUT)
        self.band_norm = nn.GroupNorm(_GROUPS, width)
        self.across = _PostNormAttention(width, num_heads, _DROPOUT)
        self.within = _PostNormAttention(width, num_heads, _DROPOUT)
        self.mlp = _PostNormPerceptron(width, _DROPOUT)
        self.scale = nn.Parameter(torch.zeros(1))  # the bands are silent at first

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return what is added, for the class token and the patches behind it."""
        image = self.up(self.dropout(functional.relu(self.down(tokens)))) * _IMAGE_PART
        bands = self._bands(tokens[:, 1:])
        silent = torch.zeros_like(tokens[:, :1])
        out: Tensor = image + torch.cat([silent, bands], dim=1) * self.scale
        return out

    def _bands(self, patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        side, width = round(int(patches.shape[1]) ** 0.5), int(patches.shape[2])
        grid = patches.transpose(1, 2).reshape(-1, width, side, side)
        bands = self.band_norm(haar(grid).flatten(3))  # b d 4 n/4
        x = bands.permute(0, 3, 2, 1)  # b n/4 4 d
        places = int(x.shape[1])
        x = self.across(x.reshape(-1, 4, width)).reshape(-1, places, 4, width)
        x = self.within(x.transpose(1, 2).reshape(-1, places, width))
        x = self.mlp(x).reshape(-1, 4, side // 2, side // 2, width)
        return inverse_haar(x.permute(0, 4, 1, 2, 3)).flatten(2).transpose(1, 2)


def haar(grid: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d 4 h2 w2"]:
    """Split a map into the four bands of a Haar transform, each of half its sides.

    Returns:
        Low; high along the height; high along the width; high along both.

    Example:
        >>> haar(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).flatten().tolist()
        [5.0, -2.0, -1.0, 0.0]
    """
    a, b = grid[..., 0::2, 0::2], grid[..., 0::2, 1::2]
    c, d = grid[..., 1::2, 0::2], grid[..., 1::2, 1::2]
    bands = [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    return torch.stack(bands, dim=2) / 2


def inverse_haar(bands: Float[Tensor, "b d 4 h2 w2"]) -> Float[Tensor, "b d h w"]:
    """Put the map together again that `haar` took apart."""
    low, down, along, both = bands.unbind(2)
    upper = torch.stack([low + down + along + both, low + down - along - both], dim=-1)
    lower = torch.stack([low - down + along - both, low - down - along + both], dim=-1)
    rows = torch.stack([upper.flatten(-2), lower.flatten(-2)], dim=-2)  # b d h2 2 w
    return rows.flatten(-3, -2) / 2


class _ImageTower(nn.Module):
    """CLIP's image tower: all tokens in the joint space, with adapters in some blocks."""

    def __init__(
        self,
        side: int,
        patch_size: int,
        width: int,
        depth: int,
        joint_width: int,
        places: list[int],
        bottleneck: int,
    ) -> None:
        super().__init__()
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * scale)
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * scale)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _clip_transformer(depth, width, causal=False)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, joint_width) * scale)
        self.adapters = nn.ModuleDict({str(n): ForgeryAdapter(width, bottleneck) for n in places})

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n joint"]:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        start = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([start, patches], dim=1) + self.positional_embedding)
        for number, block in enumerate(self.transformer.blocks):
            assert isinstance(block, Block)
            x = x + block.attention(block.norm1(x), causal=False)
            added = block.mlp(block.norm2(x))
            if str(number) in self.adapters:
                added = added + self.adapters[str(number)](x)
            x = x + added
        out: Tensor = self.ln_post(x) @ self.proj
        return out


class _TextTower(nn.Module):
    """CLIP's text tower, which reads sentences with some words replaced by vectors."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(torch.randn(_CONTEXT_LENGTH, width) * 0.01)
        self.transformer = _clip_transformer(depth, width, causal=True)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, width) * width**-0.5)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(
        self, words: Float[Tensor, "b context d"], ids: Int[Tensor, "k places"]
    ) -> Float[Tensor, "b k d"]:
        # the tower is causal: what stands behind the sentences' end changes nothing
        end = int(ids.argmax(1).max())  # end-of-text is the largest id
        count, embedded = len(ids), self.token_embedding(ids[:, : end + 1])
        start = embedded[:, :1].expand(words.shape[0], -1, -1, -1)
        rest = embedded[:, 1 + CONTEXT :].expand(words.shape[0], -1, -1, -1)
        middle = words[:, None].expand(-1, count, -1, -1)
        x = torch.cat([start, middle, rest], dim=2).flatten(0, 1)  # (b k) places d
        x = self.transformer(x + self.positional_embedding[: end + 1])
        last: Tensor = self.ln_final(x[:, end]) @ self.text_projection
        return last.reshape(-1, count, last.shape[-1])


def _clip_transformer(depth: int, width: int, *, causal: bool) -> Transformer:
    heads = width // _HEAD_WIDTH
    tower = Transformer(depth, width, num_heads=heads, mlp_ratio=4.0, causal=causal)
    for block in tower.blocks:
        assert isinstance(block, Block)
        block.mlp.activation = QuickGELU()
    return tower


class _Attention(nn.Module):
    """Tokens look at others, which may be themselves."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b n d"], others: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n d"]:
        # the projection's first third is for what asks
        weight, bias, d = self.in_proj.weight, self.in_proj.bias, self.in_proj.in_features
        asked = functional.linear(others, weight[d:], bias[d:]).chunk(2, dim=-1)
        q, k, v = (
            part.reshape(*part.shape[:2], self.num_heads, -1).transpose(1, 2)  # b h n d/h
            for part in (functional.linear(tokens, weight[:d], bias[:d]), *asked)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(tokens.shape))
        return out


class _PostNormAttention(nn.Module):
    """Attention to the tokens themselves or to others, added and normalised."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = _Attention(width, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "b n d"], others: Float[Tensor, "b m d"] | None = None
    ) -> Float[Tensor, "b n d"]:
        mixed = self.attention(x, x if others is None else others)
        out: Tensor = self.norm(x + self.dropout(mixed))
        return out


class _PostNormPerceptron(nn.Module):
    """Two layers, added and normalised."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        hidden = self.dropout(functional.relu(self.wide(x)))
        out: Tensor = self.norm(x + self.dropout(self.narrow(hidden)))
        return out


class _Decoder(nn.Module):
    """Tokens look at others, then pass a perceptron (the enhancer and the interactor)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attend = _PostNormAttention(width, num_heads)
        self.mlp = _PostNormPerceptron(width)

    def forward(
        self, x: Float[Tensor, "b n d"], others: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n d"]:
        out: Tensor = self.mlp(self.attend(x, others))
        return out


_PUBLISHED = (
    # language_guided_alignment is the enhancer; what has no name before it is the interactor
    (r"^language_guided_alignment\.patch_basaed_enhancer\.", "enhancer.attend.attention."),
    (r"^language_guided_alignment\.norm1\.", "enhancer.attend.norm."),
    (r"^language_guided_alignment\.norm2\.", "enhancer.mlp.norm."),
    (r"^language_guided_alignment\.linear1\.", "enhancer.mlp.wide."),
    (r"^language_guided_alignment\.linear2\.", "enhancer.mlp.narrow."),
    (r"^language_guided_alignment\.ctx$", "context"),
    (r"^language_guided_alignment\.token_", "words.token_"),
    (r"^text_guided_interactor\.", "interactor.attend.attention."),
    (r"^norm1\.", "interactor.attend.norm."),
    (r"^norm2\.", "interactor.mlp.norm."),
    (r"^linear1\.", "interactor.mlp.wide."),
    (r"^linear2\.", "interactor.mlp.narrow."),
    (r"^(token_embedding|positional_embedding|ln_final|text_projection|transformer)", r"text.\1"),
    (r"^visual\.transformer\.resblocks\.(\d+)\.forgery_aware_adapter\.", r"visual.adapters.\1."),
    (r"\.first_conv_layer\.", ".down."),
    (r"\.second_conv_layer\.", ".up."),
    (r"\.freq_scale$", ".scale"),
    (r"\.dwt_norm\.", ".band_norm."),
    # "intra" and "inter" stand for each other in the authors' code
    (r"\.intra_band\.", ".across.attention."),
    (r"\.norm_intra\.", ".across.norm."),
    (r"\.inter_band\.", ".within.attention."),
    (r"\.norm_inter\.", ".within.norm."),
    (r"(visual\.adapters\.\d+)\.linear1\.", r"\1.mlp.wide."),
    (r"(visual\.adapters\.\d+)\.linear2\.", r"\1.mlp.narrow."),
    (r"(visual\.adapters\.\d+)\.norm3\.", r"\1.mlp.norm."),
    (r"\.resblocks\.", ".blocks."),
    (r"\.attn\.", ".attention."),
    (r"\.in_proj_", ".in_proj."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.wide."),
    (r"\.mlp\.c_proj\.", ".mlp.narrow."),
)
"""Patterns of the authors' names, tried in this order, and what stands for them here."""
