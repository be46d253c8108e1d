"""The transformer over class token and picture token, with every size but the batch's fixed.

An engine that must ask for sizes while it runs cannot join operations: the same arithmetic as
`mfclip.layers.transformer.TokenTransformer`, written without asking.
Axes: b batch, d width, h heads, e = d / h.
"""

from __future__ import annotations

import copy

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.layers.transformer import Block, TokenTransformer


class TwoTokens(nn.Module):
    """Project a map to a token, mix it with the class token, and return the class token.

    Args:
        trained: it is copied, not changed.
    """

    places: Tensor

    def __init__(self, trained: TokenTransformer) -> None:
        super().__init__()
        trained = copy.deepcopy(trained).requires_grad_(requires_grad=False)
        self.projection, self.shared, self.norm = trained.projection, trained.shared, trained.norm
        self.extra = trained.extra
        self.blocks = trained.transformer.blocks
        places = functional.pad(trained.class_token, (0, 0, 0, 1)) + trained.positions
        self.register_buffer("places", places)

    def forward(
        self, features: Float[Tensor, "b c h w"], extra: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b d"]:
        """See `TokenTransformer`."""
        token = self.projection(features.flatten(1))
        if self.shared is not None:
            token = token + self.shared(features.mean((2, 3)))
        if self.extra is not None and extra is not None:
            token = token + self.extra(extra)
        tokens = functional.pad(token[:, None], (0, 0, 1, 0)) + self.places
        for block in self.blocks:
            tokens = _apply(block, tokens)
        out: Tensor = self.norm(tokens[:, 0])
        return out


def _apply(block: nn.Module, tokens: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b 2 d"]:
    assert isinstance(block, Block)
    tokens = tokens + _attend(block, block.norm1(tokens))
    out: Tensor = tokens + block.mlp(block.norm2(tokens))
    return out


def _attend(block: Block, tokens: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b 2 d"]:
    attention = block.attention
    heads = attention.num_heads
    size = attention.in_proj.in_features // heads
    parts = attention.in_proj(tokens).reshape(-1, 2, 3, heads, size).permute(2, 0, 3, 1, 4)
    q, k, v = parts[0], parts[1], parts[2]  # b h 2 e
    weights = (q @ k.transpose(-1, -2) * size**-0.5).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).reshape(-1, 2, heads * size)
    out: Tensor = attention.out_proj(mixed)
    return out
