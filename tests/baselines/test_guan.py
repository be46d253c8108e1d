"""Guan et al. against values of their update on a toy network, by hand, and against timm.

The stored values were computed in float64 from the formulas of the paper; fillings as in `oracles`.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.guan import Backbone, Guan, shift_statistics, worst_shifts
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision
from oracles import parameter_count, wave

SMALL: dict[str, Any] = {"image_size": 32, "backbone": "convnext_atto"}


def small(**changes: Any) -> Guan:
    return fill(Guan(**{**SMALL, **changes}))


def test_the_update_is_the_papers() -> None:
    target = torch.tensor([0, 1])

    def loss(shifts: Tensor) -> Tensor:
        means = shift_statistics(wave(2, 3, 4, 4), shifts).tanh().mean((2, 3))
        return functional.cross_entropy(means @ wave(2, 3).T, target)

    zeros = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    plain = loss(zeros)
    (gradient,) = torch.autograd.grad(plain, zeros, retain_graph=True)
    (worst,) = worst_shifts(plain, [zeros], 0.1)
    assert plain.item() == pytest.approx(0.6370233, abs=1e-6)
    assert gradient.norm().item() == pytest.approx(0.0429853, abs=1e-6)
    assert worst.norm().item() == pytest.approx(0.1)
    assert_close(worst, 0.1 * gradient / gradient.norm())
    assert loss(worst).item() == pytest.approx(0.6411243, abs=1e-6)
    assert (plain + 0.1 * gradient.norm()).item() == pytest.approx(0.6413218, abs=1e-6)


def test_shifts_move_mean_and_deviation_of_each_picture() -> None:
    features = 3 + 2 * torch.randn(4, 5, 8, 8, dtype=torch.float64)
    shifts = wave(2, 5)
    shifted = shift_statistics(features, shifts)
    assert_close(shifted.mean((2, 3)), features.mean((2, 3)) + shifts[0])
    deviations = [x.std((2, 3), correction=0) for x in (features, shifted)]
    torch.testing.assert_close(
        deviations[1], (deviations[0] + shifts[1]).abs(), rtol=1e-5, atol=1e-5
    )
    assert_close(shift_statistics(features, torch.zeros(2, 5)), features)


def test_one_length_holds_over_all_shifts() -> None:
    shifts = [torch.zeros(2, n, requires_grad=True) for n in (3, 4)]
    loss = (shifts[0] * 2).sum() + (shifts[1] * wave(2, 4).float()).sum()
    worst = worst_shifts(loss, shifts, 0.5)
    length = (6 * 4 + wave(2, 4).square().sum()).sqrt()
    assert_close(worst[0], torch.full((2, 3), 2.0) * 0.5 / length.float())
    assert_close(worst[1], wave(2, 4).float() * 0.5 / length.float())


def test_parameters_are_the_backbones_and_the_shifted_blocks_are_there() -> None:
    counts = {}
    for name in get_args(Backbone):
        with torch.device("meta"):
            model = Guan(backbone=name)
        counts[name] = parameter_count(model)
        assert all(model.network.get_submodule(site) for site in model.sites)
    assert counts["convnext_base"] == 87_568_514
    assert counts["efficientnet_b4"] == 17_552_202


def shifted_by_hand(model: Guan, images: Tensor, shifts: list[Tensor]) -> Tensor:
    """The small backbone block by block, features shifted behind both blocks of stage 1."""
    network = model.network
    x = network.stem((images - model.mean) / model.deviation)
    x = network.stages[0].downsample(x)
    for block, shift in zip(network.stages[0].blocks, shifts, strict=True):
        x = shift_statistics(block(x), shift)
    for stage in network.stages[1:]:
        x = stage(x)
    out: Tensor = network.head(network.norm_pre(x))
    return out


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_loss_is_that_of_the_worst_shift(alpha: float) -> None:
    model, batch = small(alpha=alpha).train(), tiny_batch(4)
    terms = model.loss(batch)
    zeros = [torch.zeros(2, 40, requires_grad=True) for _ in range(2)]
    plain = functional.cross_entropy(shifted_by_hand(model, batch.images, zeros), batch.target)
    gradients = torch.autograd.grad(plain, zeros)
    length = torch.cat(gradients).norm()
    worst = [0.1 * gradient / length for gradient in gradients]
    shifted = functional.cross_entropy(shifted_by_hand(model, batch.images, worst), batch.target)
    assert shifted > plain
    assert_close(terms["cross_entropy"], alpha * shifted)
    assert (alpha < 1) == ("plain" in terms)
    if alpha < 1:
        assert_close(terms["plain"], (1 - alpha) * plain)
    sum(terms.values()).backward()
    expected = torch.autograd.grad(
        alpha * shifted, model.network.head.fc.weight, retain_graph=alpha < 1
    )[0]
    if alpha == 1:
        assert_close(model.network.head.fc.weight.grad, expected)


@torch.no_grad()
def test_nothing_is_shifted_in_use() -> None:
    model, batch = small().eval(), tiny_batch(4)
    oracle = import_vision("timm").create_model("convnext_atto", num_classes=2).eval()
    oracle.load_state_dict(model.network.state_dict())
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    logits = oracle((batch.images - mean) / deviation)
    assert_close(model(batch.images), logits)
    plain = functional.cross_entropy(logits, batch.target)
    assert_close(model.loss(batch)["cross_entropy"], plain)
    assert_close(model.train().loss(batch)["cross_entropy"], plain)  # no gradients, no shift
    assert not any(part._forward_hooks for part in model.modules())


def test_statistics_see_a_batch_once() -> None:
    model, batch = fill(Guan(image_size=32, backbone="resnet50")).train(), tiny_batch(4)
    norm = model.network.bn1
    before = norm.running_mean.clone()
    images = (batch.images - model.mean) / model.deviation
    seen = model.network.conv1(images).mean((0, 2, 3))
    model.loss(batch)
    assert_close(norm.running_mean, 0.9 * before + 0.1 * seen)
    assert norm.tracks


@torch.no_grad()
def test_timms_weights_are_a_start() -> None:
    oracle = fill(import_vision("timm").create_model("convnext_atto", num_classes=7)).eval()
    model = Guan(**SMALL).eval()
    head = model.network.head.fc.weight.clone()
    model.load_state_dict(model.from_published(oracle.state_dict()))
    images = pictures(2)
    assert_close(model.network.forward_features(images), oracle.forward_features(images))
    assert torch.equal(model.network.head.fc.weight, head)


@pytest.mark.parametrize("change", [{"radius": 0.0}, {"alpha": 0.0}, {"alpha": 1.5}])
def test_settings_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"a radius above 0 and alpha in \(0, 1\], but got"):
        Guan(**{**SMALL, **change})
