"""Attention and blocks against torch's own modules, and the token transformer's promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close, fill
from mfclip.layers.transformer import Attention, Block, TokenTransformer, Transformer


def make_tokens(b: int = 3, n: int = 5, d: int = 8) -> Tensor:
    return torch.sin(torch.arange(b * n * d) * 0.9).view(b, n, d)


def reference_block(block: Block) -> nn.TransformerEncoderLayer:
    """Build torch's own pre-norm layer with the same parameters."""
    d = block.norm1.normalized_shape[0]
    hidden = block.mlp.wide.out_features
    layer = nn.TransformerEncoderLayer(
        d, block.attention.num_heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True
    )
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": block.attention.in_proj.weight,
            "self_attn.in_proj_bias": block.attention.in_proj.bias,
            "self_attn.out_proj.weight": block.attention.out_proj.weight,
            "self_attn.out_proj.bias": block.attention.out_proj.bias,
            "linear1.weight": block.mlp.wide.weight,
            "linear1.bias": block.mlp.wide.bias,
            "linear2.weight": block.mlp.narrow.weight,
            "linear2.bias": block.mlp.narrow.bias,
            **{
                f"norm{i}.{k}": v
                for i in "12"
                for k, v in getattr(block, f"norm{i}").state_dict().items()
            },
        }
    )
    return layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_block_equals_torchs_encoder_layer(heads: int, causal: bool) -> None:
    block = fill(Block(8, heads, 2.0))
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected = reference_block(block)(make_tokens(), src_mask=mask)
    assert_close(block(make_tokens(), causal=causal), expected)


def test_attention_of_one_token_is_its_value() -> None:
    attention = fill(Attention(8, 2))
    token = make_tokens(n=1)
    value = token @ attention.in_proj.weight[16:].T + attention.in_proj.bias[16:]
    assert_close(attention(token, causal=False), attention.out_proj(value))


def test_a_stack_is_its_blocks_in_order() -> None:
    stack = fill(Transformer(3, 8, num_heads=2, mlp_ratio=2.0))
    expected = make_tokens()
    for block in stack.blocks:
        expected = block(expected, causal=False)
    assert_close(stack(make_tokens()), expected)
    assert len(stack.blocks) == 3


def test_without_causal_the_order_of_tokens_is_free() -> None:
    stack = fill(Transformer(2, 8, num_heads=2, mlp_ratio=2.0))
    order = torch.tensor([3, 0, 4, 1, 2])
    assert_close(stack(make_tokens()[:, order]), stack(make_tokens())[:, order])


def make_token_transformer(shared_projection: bool) -> TokenTransformer:
    return fill(
        TokenTransformer(
            3, 2, 2, 8, num_heads=2, mlp_ratio=2.0, shared_projection=shared_projection
        )
    )


@pytest.mark.parametrize("shared", [False, True])
def test_token_transformer_by_its_formula(shared: bool) -> None:
    module = make_token_transformer(shared)
    features = make_tokens(4, 3, 4).view(4, 3, 2, 2)  # b c h w
    token = torch.einsum("bchw,dchw->bd", features, module.projection.weight.view(8, 3, 2, 2))
    token = token + module.projection.bias
    if shared:
        token = token + torch.einsum("bchw,dc->bd", features, module.shared.weight) / 4
    rows = [
        module.transformer(torch.stack([module.class_token[0, 0], one])[None] + module.positions)
        for one in token
    ]
    assert_close(module(features), module.norm(torch.cat(rows)[:, 0]))


@pytest.mark.parametrize("shared", [False, True])
def test_token_features_do_not_depend_on_the_batch(shared: bool) -> None:
    module = make_token_transformer(shared)
    features = make_tokens(25, 3, 4).view(25, 3, 2, 2)
    alone = torch.cat([module(row[None]) for row in features])
    for b in (2, 24, 25):
        assert_close(module(features[:b]), alone[:b])
    assert_close(module(features.flip(0)), alone.flip(0))
    assert module.positions.shape == (1, 2, 8)
