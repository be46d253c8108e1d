"""CEViT against values from its authors' code, and its parts by hand.

The stored values were computed with the authors' repository in float64 and torch 2.13; the fillings
of parameters and pictures are those of `oracles`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.cevit import CrossEfficientViT
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision
from oracles import fill_by_shape, oracle_pictures, parameter_count
from published_files import cevit_names

SMALL: dict[str, Any] = {"image_size": 32, "width": 8, "depth": 2, "hidden": 16}


@pytest.mark.slow
@torch.no_grad()
def test_logits_and_parameters_are_the_authors() -> None:
    model = fill_by_shape(CrossEfficientViT()).eval()
    assert parameter_count(model) == 94_827_152
    images = oracle_pictures(2, 224).float()
    logits = torch.tensor([-0.717617, -0.718034])
    torch.testing.assert_close(model(images)[:, 1], logits, atol=1e-3, rtol=0)
    logits = torch.tensor([-0.729219, -0.727948])  # what pixels in [0, 1] would give
    torch.testing.assert_close(model(images / 255)[:, 1], logits, atol=1e-3, rtol=0)


@torch.no_grad()
def test_pixels_are_levels_or_as_imagenet_had_them() -> None:
    seen = []
    for normalise in (False, True):
        model = CrossEfficientViT(**SMALL, normalise=normalise).eval()
        model.small.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        model(pictures(1))
    levels, normal = seen
    assert_close(levels, pictures(1) * 255)
    assert_close(normal[0, 1], (pictures(1)[0, 1] - 0.456) / 0.224)


@torch.no_grad()
def test_tokens_are_whole_maps_channels_last() -> None:
    model = fill(CrossEfficientViT(**{**SMALL, "image_size": 64})).eval()
    pixels = pictures(2, 64)
    network = model.large.network
    x = network.bn1(network.conv_stem(pixels))
    x = network.blocks(x)
    assert x.shape == (2, 24, 16, 16)
    rows = [[x[b, :, i, j] for i in range(16) for j in range(16)] for b in range(2)]
    flat = torch.stack([torch.cat(row) for row in rows])
    token = model.large.project(flat) + model.large.positions[0, 1]
    assert_close(model.large(pixels)[:, 1], token)
    start = model.large.class_token[0, 0] + model.large.positions[0, 0]
    assert_close(model.large(pixels)[:, 0], start.expand(2, -1))
    assert len(model.small.network.blocks) == 7


@torch.no_grad()
def test_a_class_token_asks_the_other_branch_and_itself() -> None:
    question = fill(CrossEfficientViT(**SMALL)).eval().layers[0].small_asks[0]
    token, patches = torch.randn(2, 1, 8), torch.randn(2, 1, 16)
    oracle = torch.nn.MultiheadAttention(512, 8, bias=False, batch_first=True)
    attention = question.attention
    entered = question.norm(question.enter(token))
    seen = torch.cat([entered, patches], dim=1)
    weights = attention.key_value.weight
    projected = (entered @ attention.query.weight.T, seen @ weights[:512].T, seen @ weights[512:].T)
    oracle.in_proj_weight.copy_(torch.eye(512).repeat(3, 1))
    oracle.out_proj.weight.copy_(torch.eye(512))
    mixed, _ = oracle(*projected)
    expected = question.leave(mixed @ attention.out.weight.T + attention.out.bias)
    assert_close(question(token, patches), expected)


@torch.no_grad()
def test_a_fake_may_weigh_less() -> None:
    batch = tiny_batch(6)
    model = fill(CrossEfficientViT(**SMALL, fake_weight=0.25)).eval()
    z, fake = model.score(batch.images), batch.target == 1
    terms = torch.where(fake, 0.25 * torch.nn.functional.softplus(-z), z.exp().log1p())
    assert_close(model.loss(batch)["cross_entropy"], terms.mean())


@torch.no_grad()
def test_published_weights_are_renamed_and_their_colours_turned() -> None:
    model = fill(CrossEfficientViT(**SMALL))
    own = model.state_dict()
    published = {}
    for theirs, ours in cevit_names(layers=2):
        # what the authors never use has no place here
        published[f"module.{theirs}"] = own.get(ours, torch.ones(7))
    for branch in ("sm", "lg"):
        published[f"module.{branch}_image_embedder.efficient_net._fc.bias"] = torch.ones(1000)
    found = model.from_published(published)
    assert found.keys() == own.keys()
    for name, value in own.items():
        turned = value.flip(1) if name.endswith("conv_stem.weight") else value
        assert torch.equal(found[name], turned), name


@torch.no_grad()
def test_efficientnets_weights_are_a_start_for_both_branches() -> None:
    timm = fill(import_vision("timm.models.efficientnet").tf_efficientnet_b0(num_classes=5))
    model = CrossEfficientViT(**SMALL)
    model.load_state_dict(model.from_published(timm.state_dict()))
    for branch in (model.small, model.large):
        for name, value in branch.network.state_dict().items():
            assert torch.equal(value, timm.state_dict()[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 48}, "image_size to be a multiple of 32, but got 48"),
        ({"fake_weight": 0.0}, "a fake_weight above 0, but got 8, 2, 16 and 0.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossEfficientViT(**{**SMALL, **change})
