"""The language encoder against open_clip, a padded reference, and its promises about levels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helpers import KINDS, assert_close, fill, import_open_clip
from mfclip.errors import InputError
from mfclip.labels import Labels
from mfclip.layers.transformer import Block
from mfclip.model.fle import FineGrainedLanguageEncoder, PackedPrompts, pack_prompts
from mfclip.model.ftg import prompts
from mfclip.model.tokenizer import END_ID, tokenize

MIXED = [*KINDS, Labels(True), Labels(True, "face_swap"), Labels(True, "face_swap", "gan")]


def make_encoder(max_levels: int = 4, depth: int = 2) -> FineGrainedLanguageEncoder:
    encoder = FineGrainedLanguageEncoder(
        16, max_levels=max_levels, context_length=77, depth=depth, num_heads=2, mlp_ratio=4.0
    )
    return fill(encoder).eval()


def attend(block: Block, x: Tensor, allowed: Tensor) -> Tensor:
    """Attention as torch's own module computes it, with an explicit mask."""
    d = x.shape[-1]
    own = block.attention
    mixed, _ = functional.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3,
        embed_dim_to_check=d,
        num_heads=own.num_heads,
        in_proj_weight=own.in_proj.weight,
        in_proj_bias=own.in_proj.bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=own.out_proj.weight,
        out_proj_bias=own.out_proj.bias,
        attn_mask=~allowed.repeat_interleave(own.num_heads, 0),
        need_weights=False,
    )
    return mixed.transpose(0, 1)


def padded_reference(encoder: FineGrainedLanguageEncoder, ids: Tensor) -> Tensor:
    """All levels x 77 places, padding masked out, one prompt's answer at its last end of text."""
    flat = ids.flatten(1)
    used = torch.zeros_like(flat, dtype=torch.bool)
    last = []
    for row, sample in enumerate(ids.tolist()):
        for level, sentence in enumerate(sample):
            if END_ID in sentence:
                end = sentence.index(END_ID)
                used[row, level * 77 : level * 77 + end + 1] = True
        last.append(int(used[row].nonzero().max()))
    places = flat.shape[1]
    allowed = torch.ones(places, places, dtype=torch.bool).tril() & used[:, None]
    allowed = allowed | torch.eye(places, dtype=torch.bool)  # padding may see itself
    x = encoder.token_embedding(flat) + encoder.positions[:places]
    for block in encoder.transformer.blocks:
        x = x + attend(block, block.norm1(x), allowed)
        x = x + block.mlp(block.norm2(x))
    return encoder.projection(encoder.norm(x[range(len(ids)), last]))


def test_features_equal_a_padded_reference() -> None:
    encoder = make_encoder()
    ids = tokenize([prompts(labels) for labels in MIXED])
    assert_close(encoder(ids), padded_reference(encoder, ids))


def test_one_level_equals_open_clips_text_transformer() -> None:
    open_clip = import_open_clip("transformer")
    encoder = make_encoder(max_levels=1)
    theirs = open_clip.TextTransformer(
        context_length=77, vocab_size=49_408, width=16, heads=2, layers=2, output_dim=16
    ).eval()
    theirs.load_state_dict(_names_of_open_clip(encoder), strict=False)
    ids = tokenize([[sentence] for labels in KINDS for sentence in prompts(labels)])
    assert_close(encoder(ids), theirs(ids[:, 0]))


def _names_of_open_clip(encoder: FineGrainedLanguageEncoder) -> dict[str, Tensor]:
    names = {
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attention.in_proj.": "attn.in_proj_",
        "attention.out_proj": "attn.out_proj",
        "mlp.wide": "mlp.c_fc",
        "mlp.narrow": "mlp.c_proj",
        "blocks.": "resblocks.",
    }
    state = {}
    for name, tensor in encoder.transformer.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        state[f"transformer.{name}"] = tensor
    return state | {
        "token_embedding.weight": encoder.token_embedding.weight,
        "positional_embedding": encoder.positions,
        "ln_final.weight": encoder.norm.weight,
        "ln_final.bias": encoder.norm.bias,
        "text_projection": encoder.projection.weight.T,
    }


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_each_level_changes_the_features(level: int) -> None:
    encoder = make_encoder()
    sentences = prompts(KINDS[1])
    changed = [*sentences]
    changed[level] = "a drawing of a cat"
    one, other = encoder(tokenize([sentences, changed]))
    assert (one - other).abs().max() > 1e-2 * one.abs().max()


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_one_to_four_levels_equal_the_reference(levels: int) -> None:
    encoder = make_encoder(max_levels=levels)
    ids = tokenize([prompts(labels, levels) for labels in KINDS])
    assert ids.shape[1] == levels
    assert_close(encoder(ids), padded_reference(encoder, ids))


def test_levels_that_are_absent_say_nothing() -> None:
    encoder = make_encoder()
    two = [["a photo of a fake face", "a photo of an identity swapped face"]]
    ids = tokenize(two)
    with_empty = functional.pad(ids, (0, 0, 0, 2))  # levels 3 and 4 all zero
    assert_close(encoder(with_empty), encoder(ids))


def test_ids_behind_the_end_of_text_do_not_matter() -> None:
    encoder = make_encoder()
    ids = tokenize([prompts(labels) for labels in KINDS])
    behind = (ids == END_ID).cumsum(-1).bool() & (ids != END_ID)
    assert_close(encoder(ids.masked_fill(behind, 320)), encoder(ids))


def test_features_do_not_depend_on_the_batch() -> None:
    encoder = make_encoder()
    ids = tokenize([prompts(labels) for labels in MIXED])
    together = encoder(ids)
    for row in range(len(ids)):
        assert_close(encoder(ids[row : row + 1]), together[row : row + 1])


def test_a_token_sees_only_what_stands_before_it() -> None:
    encoder = make_encoder()
    x = torch.sin(torch.arange(2 * 9 * 16.0)).view(2, 9, 16)
    changed = x.clone()
    changed[:, 5:] += 1
    before, after = encoder.transformer(x), encoder.transformer(changed)
    assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-3


def test_pack_prompts_by_hand() -> None:
    start = 5
    ids = torch.tensor(
        [
            [[start, 7, END_ID, 0], [start, END_ID, 0, 0]],
            [[start, 8, 9, END_ID], [0, 0, 0, 0]],
            [[start, END_ID, 0, 0], [0, 0, 0, 0]],
        ]
    )
    packed = pack_prompts(ids)
    assert packed.ids.tolist()[0] == [start, 7, END_ID, start, END_ID]
    assert packed.positions.tolist()[0] == [0, 1, 2, 4, 5]  # places of the full layout
    assert packed.ids.tolist()[1][:4] == [start, 8, 9, END_ID]
    assert packed.last.tolist() == [4, 3, 1]


def test_packed_prompts_move_together() -> None:
    packed = pack_prompts(tokenize([["a face"]]))
    moved = packed.to(torch.device("meta"))
    assert isinstance(moved, PackedPrompts)
    assert {moved.ids.device.type, moved.positions.device.type, moved.last.device.type} == {"meta"}


def test_ids_without_an_end_of_text_are_refused() -> None:
    with pytest.raises(InputError, match=r"no end-of-text id; make ids with mfclip\.tokenize"):
        pack_prompts(torch.ones(2, 1, 77, dtype=torch.long))


@pytest.mark.parametrize("shape", [(1, 3, 77), (1, 2, 76)])
def test_other_layouts_than_the_encoders_are_refused(shape: tuple[int, ...]) -> None:
    encoder = make_encoder(max_levels=2)
    ids = torch.full(shape, END_ID)
    with pytest.raises(InputError, match=r"expected ids \(b, 1\.\.2, 77\), but got"):
        encoder(ids)


def test_gradients_reach_every_parameter() -> None:
    encoder = make_encoder()
    encoder(tokenize([prompts(labels) for labels in KINDS])).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
