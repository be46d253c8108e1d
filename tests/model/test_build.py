"""Sizes: the paper's parameter counts, presets, overrides, and impossible combinations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import TINY, fill, pictures, tiny_batch, tiny_model
from mfclip.config import ModelSettings, build_config
from mfclip.errors import ConfigError
from mfclip.labels import Labels
from mfclip.model.build import build_mfclip, create_model
from mfclip.model.mfclip import MFCLIP
from mfclip.model.patch_selector import PATCH_SIZES


@pytest.fixture(scope="module")
def paper() -> MFCLIP:
    """The paper's sizes, without memory for the values."""
    with torch.device("meta"):
        return create_model("mfclip", spa={"mode": "batch"})


def millions(*parts: nn.Module | nn.Parameter) -> float:
    sizes = [
        part.numel()
        if isinstance(part, nn.Parameter)
        else sum(p.numel() for p in part.parameters())
        for part in parts
    ]
    return sum(sizes) / 1e6


def test_parameter_counts_are_those_of_the_paper(paper: MFCLIP) -> None:
    image, noise = paper.vision_encoder.image_encoder, paper.vision_encoder.noise_encoder
    text = paper.language_encoder
    counts = {
        "whole": millions(paper),
        "IE convs": millions(image.stages),
        "IE patch projection": millions(image.token.projection),
        "IE transformer": millions(image.token.transformer),
        "NE convs": millions(noise.stages),
        "NE patch projection": millions(noise.token.projection),
        "NE transformer": millions(noise.token.transformer),
        "text transformer": millions(text.transformer),
        "token embedding": millions(text.token_embedding),
        "predictor": millions(paper.predictor),
        "text projection": millions(text.projection),
        "positions": millions(text.positions),
    }
    expected = {
        "whole": 122.74,
        "IE convs": 10.81,
        "IE patch projection": 12.85,
        "IE transformer": 18.91,
        "NE convs": 0.11,
        "NE patch projection": 25.69,
        "NE transformer": 9.46,  # 9.45 printed for the released code
        "text transformer": 18.91,
        "token embedding": 25.30,
        "predictor": 0.26,
        "text projection": 0.26,
        "positions": 0.16,
    }
    assert {name: round(count, 2) for name, count in counts.items()} == expected


def test_dropping_the_text_half_saves_44_million(paper: MFCLIP) -> None:
    parts = [paper.language_encoder, paper.predictor, paper.contrastive]
    assert millions(*parts) == pytest.approx(44.9, abs=0.05)


def test_the_papers_sizes_by_hand(paper: MFCLIP) -> None:
    image, noise = paper.vision_encoder.image_encoder, paper.vision_encoder.noise_encoder
    assert sum(isinstance(layer, nn.Conv2d) for layer in image.stages) == 17
    assert image.token.projection.in_features == 512 * 7 * 7
    assert noise.token.projection.in_features == 64 * 28 * 28
    assert [len(t.blocks) for t in (image.token.transformer, noise.token.transformer)] == [6, 3]
    assert paper.language_encoder.positions.shape == (308, 512)
    assert paper.contrastive.attention.weight.shape == (24, 24)
    block = paper.language_encoder.transformer.blocks[0]
    assert block.mlp.wide.out_features == 2048
    assert block.attention.num_heads == 8


def test_the_small_model_fits_in_the_package() -> None:
    model = create_model("mfclip-small")
    vision = 4 * millions(model.vision_encoder, model.head)
    assert vision <= 20  # megabytes at float32
    assert model.contrastive.attention.mode == "features"
    assert model.contrastive.beta == 8


def test_any_size_can_be_overridden() -> None:
    model = tiny_model(embed_dim=24, num_heads=3, image={"depth": 2}, noise={"patch_size": 8})
    assert model.encode_image(pictures(1)).shape == (1, 24)
    assert len(model.vision_encoder.image_encoder.token.transformer.blocks) == 2
    assert model.vision_encoder.noise(pictures(1))[0].shape == (1, 3, 8, 8)
    assert model.vision_encoder.image_encoder.stages[0].out_channels == 4  # the rest stays


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_every_patch_size_of_table_vii_builds_at_the_papers_sizes(patch_size: int) -> None:
    with torch.device("meta"):
        model = create_model("mfclip", noise={"patch_size": patch_size})
    projection = model.vision_encoder.noise_encoder.token.projection
    assert projection.in_features == 64 * (patch_size // 4) ** 2


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"use_image": False}, ["vision_encoder.image_encoder"]),
        ({"use_noise": False}, ["vision_encoder.noise_encoder"]),
        ({"use_text": False}, ["language_encoder", "contrastive", "predictor"]),
        ({"use_predictor": False}, ["predictor"]),
        ({"spa": {"mode": "none"}}, ["contrastive.attention"]),
    ],
)
def test_switches_remove_their_parts_and_no_others(
    changes: dict[str, object], absent: list[str]
) -> None:
    whole, part = (set(dict(tiny_model(**c).named_parameters())) for c in ({}, changes))
    assert whole - part == {name for name in whole if name.startswith(tuple(absent))}
    assert part <= whole


def test_without_the_contrastive_loss_the_logit_scale_is_no_parameter_to_train() -> None:
    # a parameter without a gradient would stop training over several processes
    model = tiny_model(use_text=False)
    torch.stack(list(model.loss(tiny_batch()).values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 18, "num_heads": 4}, "embed_dim to be a multiple of num_heads.*18.*4"),
        ({"noise": {"patch_size": 48}}, "noise.patch_size <= image_size 32, but got 48"),
        ({"noise": {"patch_size": 15}}, "patch_size to be a multiple of 2, but got 15"),
        ({"image_size": 34}, "image_size to be a multiple of 4.*but got 34"),
        ({"use_image": False, "use_noise": False}, "use_image and use_noise are both off"),
        ({"image": {"convs": (1,)}}, r"image.widths and image.convs to be equally long.*\(1,\)"),
        ({"noise": {"widths": (4, 4)}}, "noise.widths and noise.convs to be equally long"),
        ({"image": {"widths": (), "convs": ()}}, "at least one stage, each number 1 or more"),
        ({"noise": {"widths": (0,)}}, r"each number 1 or more, but got \(0,\)"),
        ({"image": {"convs": (1, 0)}}, r"each number 1 or more, but got .*\(1, 0\)"),
    ],
)
def test_impossible_combinations_are_refused_with_the_reason(
    changes: dict[str, dict[str, object]], message: str
) -> None:
    if message.startswith("noise.patch_size"):
        message = message.replace(".", r"\.", 1)
    with pytest.raises(ConfigError, match=message):
        tiny_model(**changes)


def test_an_unknown_name_or_key_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"one of \[mfclip, mfclip-small, mfclip-lite\], but got 'mfclip-big'"
    ):
        create_model("mfclip-big")
    with pytest.raises(ConfigError, match=r"'model\.noise\.patchsize'.*'model\.noise\.patch_size'"):
        create_model("mfclip", noise={"patchsize": 56})


def test_pretrained_weights_are_not_silently_left_out() -> None:
    with pytest.raises(ConfigError, match=r"random weights; pass pretrained to .*build_detector"):
        create_model("mfclip-small", pretrained="weights.safetensors")


def test_real_prompts_of_the_settings_reach_the_text_half() -> None:
    plain = fill(tiny_model())
    other = fill(tiny_model(text={"depth": 1, "real_prompts": ["a genuine face"]}))
    features = []
    for model in (plain, other):
        model.remember_prompts([Labels(False), Labels(True)])
        features.append(model.prompt_features)
    order = [labels.is_fake for labels in plain.prompts]
    same = (features[0] - features[1]).abs().amax(1) < 1e-6
    assert same.tolist() == order  # what fakes say is the same, what real faces say is not


def test_settings_and_overrides_build_the_same() -> None:
    settings = build_config({"model": TINY}).model
    assert isinstance(settings, ModelSettings)
    shapes = [
        {name: tensor.shape for name, tensor in model.state_dict().items()}
        for model in (build_mfclip(settings), create_model("mfclip", **TINY))
    ]
    assert shapes[0] == shapes[1]
