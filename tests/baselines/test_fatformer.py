"""FatFormer against values of the authors' code, and its parts against plain restatements."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helpers import SIZES, assert_close, fill, pictures
from mfclip.baselines.fatformer import (
    SENTENCES,
    FatFormer,
    ForgeryAdapter,
    haar,
    inverse_haar,
)
from mfclip.config import build_config
from mfclip.detectors import build_detector, build_random
from mfclip.errors import ConfigError
from mfclip.model.tokenizer import tokenize
from oracles import fill_by_shape, oracle_pictures, parameter_count, wave
from published_files import fatformer_tensors


def build(**options: Any) -> FatFormer:
    sizes = SIZES["fatformer"]
    tree = {**sizes, "name": "fatformer", "options": {**sizes["options"], **options}}
    detector = build_random(build_config({"model": tree}).model)
    assert isinstance(detector, FatFormer)
    return detector.eval()


def full(**options: Any) -> FatFormer:
    with torch.device("meta"):
        detector = build_random(
            build_config({"model": {"name": "fatformer", "options": options}}).model
        )
    assert isinstance(detector, FatFormer)
    return detector


def test_parameters_are_those_counted() -> None:
    assert parameter_count(full()) == 492_591_044
    assert parameter_count(full(adapters=8)) == 577_245_449
    assert list(full().visual.adapters) == ["7", "15", "23"]
    assert parameter_count(full().visual.adapters["7"]) == 16_930_881
    learned = [p.numel() for p in full(learn="adapters").parameters() if p.requires_grad]
    assert sum(learned) == 64_974_531


@torch.no_grad()
def test_the_adapter_gives_the_authors_values() -> None:
    adapter = fill_by_shape(ForgeryAdapter(128, 8).double()).eval()
    assert parameter_count(adapter) == 267_017
    tokens = wave(257, 2, 128).transpose(0, 1)
    quiet = adapter(tokens)
    assert quiet.mean().item() == pytest.approx(0.0015709, abs=1e-6)
    assert quiet.abs().mean().item() == pytest.approx(0.0320713, abs=1e-6)
    expected = [0.324428, 0.083659, -0.082026]
    assert quiet[0, 0, :3].tolist() == pytest.approx(expected, abs=1e-5)
    expected = [0.038859, 0.097805, -0.017718]
    assert quiet[1, -1, :3].tolist() == pytest.approx(expected, abs=1e-5)
    adapter.scale.fill_(0.5)
    loud = adapter(tokens)
    assert loud.abs().mean().item() == pytest.approx(0.3942953, abs=1e-5)
    expected = [0.322250, -0.090172, -0.759465]
    assert loud[1, -1, :3].tolist() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(loud[:, 0], quiet[:, 0])  # the class token has no place among the bands


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_network_gives_the_authors_values() -> None:
    model = fill_by_shape(build_random(build_config({"model": {"name": "fatformer"}}).model)).eval()
    expected = torch.tensor([[-0.14784, -0.14373], [-0.14983, -0.14596]])
    found = model(oracle_pictures(2, 224).float())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_haar_keeps_length_and_can_be_undone() -> None:
    grid = wave(2, 3, 8, 6)
    bands = haar(grid)
    assert_close(bands.square().sum(), grid.square().sum())
    assert_close(inverse_haar(bands), grid)
    columns = torch.ones(1, 1, 2, 2) * torch.tensor([1.0, -1.0])
    assert haar(columns).flatten().tolist() == [0, 0, 2, 0]  # it changes along the width


def test_sentences_hold_eight_words_that_are_learned() -> None:
    ids = tokenize([[text] for text in SENTENCES])[:, 0]
    alone = [int(tokenize([[word]])[0, 0, 1]) for word in ("real", "fake", "x", ".")]
    real, fake, word, stop = alone
    assert word == 343  # as in the authors' prompts
    for row, verdict in zip(ids.tolist(), (real, fake), strict=True):
        assert row[:13] == [49406, *[343] * 8, verdict, stop, 49407, 0]


@torch.no_grad()
def test_the_verdict_is_two_cosines_of_each_sentence() -> None:
    model = fill(build())
    images = pictures(2)
    tokens = model.visual((images - model.mean) / model.deviation)
    words = model.enhancer(model.context.expand(2, -1, -1), tokens)
    sentences = torch.stack([text_tower(model, one) for one in words])
    logits = torch.zeros(2, 2)
    for b in range(2):
        patches = model.interactor(tokens[b : b + 1, 1:], sentences[b : b + 1])[0].mean(0)
        for k in range(2):
            for part in (tokens[b, 0], patches):
                cosine = functional.cosine_similarity(part, sentences[b, k], dim=0)
                logits[b, k] += model.logit_scale.exp() * cosine
    assert_close(model(images), logits, factor=10)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def text_tower(model: FatFormer, words: Tensor) -> Tensor:
    """Both sentences through all 77 places, one head at a time."""
    text, out = model.text, []
    for ids in model.class_ids:
        x = text.token_embedding(ids).clone()
        x[1:9] = words
        x = x + text.positional_embedding
        for block in text.transformer.blocks:
            h = block.norm1(x)
            q, k, v = block.attention.in_proj(h).chunk(3, -1)
            heads = []
            for start in range(0, x.shape[1], 64):
                part = slice(start, start + 64)
                scores = q[:, part] @ k[:, part].T / 8
                later = torch.arange(77)[:, None] < torch.arange(77)[None]
                heads.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ v[:, part])
            x = x + block.attention.out_proj(torch.cat(heads, -1))
            wide = block.mlp.wide(block.norm2(x))
            x = x + block.mlp.narrow(wide / (1 + (-1.702 * wide).exp()))
        out.append(text.ln_final(x[int(ids.argmax())]) @ text.text_projection)
    return torch.stack(out)


@torch.no_grad()
def test_published_weights_are_renamed() -> None:
    model, other = fill(build()), build()
    theirs = fatformer_tensors(model)
    assert "language_guided_alignment.patch_basaed_enhancer.in_proj_weight" in theirs
    assert "clip_model.visual.transformer.resblocks.1.forgery_aware_adapter.freq_scale" in theirs
    other.load_state_dict(other.from_published(theirs))
    images = pictures(2)
    assert torch.equal(other(images), model(images))


@torch.no_grad()
def test_words_that_their_file_keeps_apart_are_taken() -> None:
    model, other = fill(build()), build()
    theirs, ids = fatformer_tensors(model), model.class_ids
    embedded = model.text.token_embedding(ids) + 0.5  # what their code reads; the table is older
    theirs["language_guided_alignment.token_prefix"] = embedded[:, :1]
    theirs["language_guided_alignment.token_suffix"] = embedded[:, 9:]
    other.load_state_dict(other.from_published(theirs))
    for place in (0, 9, 10, 11):
        assert_close(other.text.token_embedding(ids[:, place]), embedded[:, place])
    assert torch.equal(
        other.text.token_embedding.weight[343], model.text.token_embedding.weight[343]
    )


@torch.no_grad()
def test_clips_weights_are_a_start_of_both_towers() -> None:
    model, other = fill(build()), build()
    clip = {
        k.removeprefix("clip_model."): v
        for k, v in fatformer_tensors(model).items()
        if (k.startswith("clip_model.") or k == "logit_scale") and "adapter" not in k
    }
    before = other.context.clone()
    other.load_state_dict(other.from_published(clip))
    assert torch.equal(other.context, before)
    assert torch.equal(other.visual.proj, model.visual.proj)
    assert torch.equal(other.text.ln_final.bias, model.text.ln_final.bias)


def test_adapters_alone_need_weights() -> None:
    sizes = SIZES["fatformer"]
    tree = {**sizes, "name": "fatformer", "options": {**sizes["options"], "learn": "adapters"}}
    with pytest.raises(ConfigError, match="trains no tower, so it needs weights"):
        build_detector(build_config({"model": tree}).model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 7}, "an even multiple of patch_size, .* got 32 and 7"),
        ({"patch_size": 32}, "an even multiple"),
        ({"width": 100}, "width a multiple of 128"),
        ({"adapters": 3}, "depth to be a multiple of adapters, but got 2 and 3"),
        ({"adapters": 0}, "multiple of adapters"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**change)
