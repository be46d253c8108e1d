"""A pre-norm transformer: attention, block, stack.

Axes: b batch, n tokens, d width, h heads.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens: Float[Tensor, "b n d"], *, causal: bool) -> Float[Tensor, "b n d"]:
        """Mix the tokens; with `causal`, a token sees itself and those before it."""
        # shapes from those of the input and a scale that is known: exported to another runtime,
        # the sizes of q, k and v would be asked for each time
        parts = self.in_proj(tokens).view(*tokens.shape[:2], 3, self.num_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()  # b h n d/h
        scale = (self.in_proj.in_features // self.num_heads) ** -0.5
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(tokens.shape))
        return out


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP: x sigmoid(1.702 x)."""

    def forward(self, x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Apply it to each entry."""
        return x * (1.702 * x).sigmoid()


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm, each added to its input."""

    def __init__(self, embed_dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = round(embed_dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attention = Attention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = nn.Sequential(
            OrderedDict(
                wide=nn.Linear(embed_dim, hidden),
                activation=nn.GELU(),
                narrow=nn.Linear(hidden, embed_dim),
            )
        )

    def forward(self, tokens: Float[Tensor, "b n d"], *, causal: bool) -> Float[Tensor, "b n d"]:
        """Apply the block."""
        tokens = tokens + self.attention(self.norm1(tokens), causal=causal)
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class Transformer(nn.Module):
    """A stack of blocks.

    Args:
        depth: number of blocks.
        embed_dim: width of a token.
        num_heads: attention heads; must divide `embed_dim`.
        mlp_ratio: hidden width of the perceptron over `embed_dim`.
        causal: a token sees only itself and those before it.
    """

    def __init__(
        self, depth: int, embed_dim: int, *, num_heads: int, mlp_ratio: float, causal: bool = False
    ) -> None:
        super().__init__()
        self.causal = causal
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth))

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Apply all blocks in order."""
        for block in self.blocks:
            tokens = block(tokens, causal=self.causal)
        return tokens


class TokenTransformer(nn.Module):
    """One projected token and a class token through a transformer; the class token comes out.

    The position embedding is (1, 2, d): it belongs to the token, not to the place in the batch.

    Args:
        channels: c of the map that becomes the token.
        side: height and width of the map.
        depth: number of blocks.
        embed_dim: d, width of a token.
        num_heads: attention heads.
        mlp_ratio: hidden width of the perceptron over d.
        shared_projection: also project the map's mean. The sum is a projection of the whole map
            as before, but what is alike at all places is learned once and not h x w times.
        extra: width of a vector that is projected and added to the token, too; 0 for none.
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
        shared_projection: bool = False,
        extra: int = 0,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(channels * side**2, embed_dim)
        self.shared = nn.Linear(channels, embed_dim, bias=False) if shared_projection else None
        self.extra = nn.Linear(extra, embed_dim, bias=False) if extra else None
        self.class_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 2, embed_dim) * 0.02)
        self.transformer = Transformer(depth, embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio)
        self.norm: nn.Module = nn.LayerNorm(embed_dim)

    def forward(
        self, features: Float[Tensor, "b c h w"], extra: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Project, add class token and positions, mix, and return the class token."""
        token = self.projection(features.flatten(1))
        if self.shared is not None:
            token = token + self.shared(features.mean((2, 3)))
        if self.extra is not None and extra is not None:
            token = token + self.extra(extra)
        # padded, not joined: the class token would have to be repeated for each image, and an
        # exported graph that asks for their number cannot fuse the first convolution
        places = functional.pad(self.class_token, (0, 0, 0, 1)) + self.positions
        tokens = functional.pad(token[:, None], (0, 0, 1, 0)) + places
        out: Tensor = self.norm(self.transformer(tokens)[:, 0])
        return out
