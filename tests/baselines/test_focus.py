"""FoCus (re-implementation): edges against scipy, what is erased, what is judged again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.focus import FoCus, suspect_part
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision
from oracles import parameter_count


def small(**options: Any) -> FoCus:
    return fill(FoCus(image_size=64, backbone="resnet18", **options))


def test_parameters_are_two_backbones_and_a_layer() -> None:
    with torch.device("meta"):
        backbone = import_vision("timm").create_model("resnet50", num_classes=0)
        assert parameter_count(backbone) == 23_508_032  # torchvision's, without its last layer
        assert parameter_count(FoCus()) == 2 * 23_508_032 + 2 * 4096 + 2


@torch.no_grad()
def test_edges_are_those_of_scipys_sobel_filter() -> None:
    image = pictures(1, 64)
    found = small().find_edges(image)[0]
    for channel, ours in zip(image[0].double().numpy(), found, strict=True):
        slopes = [ndimage.sobel(channel, axis, mode="nearest") / 4 for axis in (0, 1)]
        assert_close(ours, torch.from_numpy(np.hypot(*slopes)))
    step = torch.zeros(1, 3, 64, 64)
    step[..., 32:] = 1
    assert_close(small().find_edges(step)[0, 0, 10, 31:33], torch.ones(2))


@torch.no_grad()
def test_the_verdict_is_the_mean_over_the_maps() -> None:
    model = small().eval()
    maps = model.judge_places(pictures(2, 64))
    assert maps.shape == (2, 2, 2, 2)  # 64 px, stride 32
    assert_close(model(pictures(2, 64)), maps.mean((2, 3)))
    # a linear layer on pooled features is the same, which makes the maps class activation maps
    pooled = torch.cat(
        [
            model.colours((pictures(2, 64) - model.mean) / model.deviation).mean((2, 3)),
            model.edges((model.find_edges(pictures(2, 64)) - model.mean) / model.deviation).mean(
                (2, 3)
            ),
        ],
        dim=1,
    )
    verdict = model.verdict
    expected = functional.linear(pooled, verdict.weight[:, :, 0, 0], verdict.bias)
    assert_close(model(pictures(2, 64)), expected)


def test_the_highest_places_are_marked() -> None:
    maps = torch.arange(32.0).view(2, 4, 4)
    maps[1] = maps[1].flip(0, 1)
    marked = suspect_part(maps, 0.25, 8, 8)
    assert marked.float().mean((1, 2)).tolist() == [0.25, 0.25]
    assert marked[0, 6:].all()  # the last row of the grid
    assert marked[1, :2].all()  # turned round: the first
    assert suspect_part(maps, 0.01, 8, 8).sum((1, 2)).tolist() == [4, 4]  # one place at least


@torch.no_grad()
def test_the_second_look_is_at_the_rest_of_the_face() -> None:
    model, batch = small(share=0.5, complement_weight=0.3).eval(), tiny_batch(4, 64)
    terms = model.loss(batch)
    assert_close(
        terms["cross_entropy"], functional.cross_entropy(model(batch.images), batch.target)
    )
    rest = batch.images.clone()
    for picture, maps in zip(rest, model.judge_places(batch.images), strict=True):
        for place in maps[1].flatten().argsort(descending=True)[:2].tolist():
            row, column = divmod(place, 2)
            picture[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = model.mean
    expected = functional.cross_entropy(model(rest), batch.target)
    assert_close(terms["complement"], 0.3 * expected)


def test_the_second_look_leaves_running_statistics_alone() -> None:
    model = small().train()
    model.judge_places(tiny_batch(4, 64).images)
    once = {k: v.clone() for k, v in model.named_buffers()}
    other = small().train()
    other.loss(tiny_batch(4, 64))
    for name, value in other.named_buffers():
        assert_close(value.float(), once[name].float())


@torch.no_grad()
def test_a_resnet_is_a_start_of_both_streams() -> None:
    theirs = fill(import_vision("timm").create_model("resnet18", num_classes=1000))
    model = small()
    head = model.verdict.weight.clone()
    model.load_state_dict(model.from_published(theirs.state_dict()))
    for stream in (model.colours, model.edges):
        own = stream.state_dict()
        assert all(torch.equal(own[name], theirs.state_dict()[name]) for name in own)
    assert torch.equal(model.verdict.weight, head)


@pytest.mark.parametrize("change", [{"share": 0.0}, {"share": 1.0}, {"complement_weight": -1.0}])
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"share in \(0, 1\) and a complement_weight of at least"):
        FoCus(image_size=64, backbone="resnet18", **change)
