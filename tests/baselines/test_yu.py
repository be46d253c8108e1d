"""Yu et al. (re-implementation): distributions, grids and what each costs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from helpers import assert_close, fill, tiny_batch
from mfclip.baselines.yu import Yu, divergence, mask_loss, sample
from mfclip.batch import Batch
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision
from oracles import parameter_count, wave


def small(**options: Any) -> Yu:
    return fill(Yu(image_size=64, width=8, **options))


def with_masks(count: int) -> Batch:
    batch = tiny_batch(count, 64)
    masks = torch.zeros(count, 1, 64, 64)
    masks[1:, :, 16:48, 16:48] = 1
    return replace(batch, masks=masks)


def test_parameters_are_the_backbones_and_five_layers() -> None:
    with torch.device("meta"):
        backbone = import_vision("timm.models.xception").Xception(num_classes=0)
        heads = 2 * (2048 * 256 + 256) + (256 * 2 + 2) + (256 + 1) + (256 * 16 + 16)
        assert parameter_count(Yu()) == parameter_count(backbone) + heads


def test_the_divergence_is_that_of_torchs_normal_distributions() -> None:
    mean, log = wave(2, 3, 2, 2), wave(3, 2, 2, 2).reshape(2, 3, 2, 2)
    theirs = kl_divergence(Normal(mean, (log / 2).exp()), Normal(0.0, 1.0)).mean()
    assert_close(divergence(mean, log), theirs.float())


def test_samples_have_the_mean_and_the_spread_that_are_asked_for() -> None:
    torch.manual_seed(0)
    mean, log = torch.full((1, 1, 300, 300), 2.0), torch.full((1, 1, 300, 300), math.log(0.25))
    drawn = sample(mean, log)
    assert drawn.mean().item() == pytest.approx(2, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.01)


def test_cells_learn_their_share_of_forged_pixels() -> None:
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2, :1] = 1  # half of the upper left cell
    logits = torch.tensor([[0.0, -2.0], [1.0, 3.0]]).view(1, 1, 2, 2)
    target = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    p = logits[0, 0].sigmoid()
    by_hand = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert_close(mask_loss(logits, masks), by_hand)
    assert mask_loss(logits, None) == 0


@torch.no_grad()
def test_pixels_are_laid_out_as_the_picture_is() -> None:
    model = small().eval()
    grid = torch.zeros(1, 8, 2, 2)
    grid[0, :, 1, 0] = 1  # lower left
    model.pixels.bias.zero_()
    fine = functional.pixel_shuffle(model.pixels(grid), 4)
    assert fine.shape == (1, 1, 8, 8)
    assert fine[..., 4:, :4].abs().min() > 0
    assert fine[..., :4, :].abs().max() == fine[..., 4:, 4:].abs().max() == 0


@torch.no_grad()
def test_in_use_the_mean_is_judged_and_nothing_is_drawn() -> None:
    model, batch = small().eval(), with_masks(4)
    mean, spread = model.embed(batch.images)
    assert spread is not None
    logits = model.picture(mean.mean((2, 3)))
    assert torch.equal(model(batch.images), logits)
    terms = model.loss(batch)
    assert_close(terms["cross_entropy"], functional.cross_entropy(logits, batch.target))
    assert_close(terms["kl"], 1e-3 * divergence(mean, spread))
    assert_close(terms["patches"], mask_loss(model.patches(mean), batch.masks))
    model.train()
    torch.manual_seed(0)
    first = model.loss(batch)["cross_entropy"]
    assert first != model.loss(batch)["cross_entropy"]  # a sample is judged


@torch.no_grad()
def test_without_masks_the_grids_are_silent() -> None:
    terms = small().eval().loss(tiny_batch(4, 64))
    assert terms["patches"] == terms["pixels"] == 0
    assert terms["cross_entropy"] > 0


@torch.no_grad()
def test_learned_task_variances_weigh_the_terms() -> None:
    model, plain, batch = small(uncertainty="task"), small(uncertainty="none"), with_masks(4)
    plain.load_state_dict(model.state_dict(), strict=False)
    assert model.task_variances is not None
    model.task_variances.copy_(torch.tensor([0.0, math.log(2), math.log(4)]))
    found, raw = model.eval().loss(batch), plain.eval().loss(batch)
    assert_close(found["cross_entropy"], raw["cross_entropy"])
    assert_close(found["patches"], raw["patches"] / 2 + math.log(2) / 2)
    assert_close(found["pixels"], raw["pixels"] / 4 + math.log(4) / 2)
    assert "kl" not in found


@torch.no_grad()
def test_xceptions_weights_are_a_start() -> None:
    theirs = fill(import_vision("timm.models.xception").Xception(num_classes=3))
    model = small()
    head = model.picture.weight.clone()
    model.load_state_dict(model.from_published(theirs.state_dict()))
    own = model.network.state_dict()
    assert all(torch.equal(own[name], theirs.state_dict()[name]) for name in own)
    assert torch.equal(model.picture.weight, head)


@pytest.mark.parametrize("change", [{"width": 0}, {"kl_weight": -1.0}, {"grid_weight": -0.5}])
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="width of at least 1, and weights of at least 0"):
        Yu(image_size=64, **change)
