"""Schedules against torch's own, averages against the formula."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from mfclip.config import TrainSettings
from mfclip.errors import ConfigError
from mfclip.train.optimiser import AveragedWeights, build_optimizer, learning_rate


def test_a_detector_without_anything_to_learn_is_refused() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter of this detector learns"):
        build_optimizer(frozen, TrainSettings())


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_schedule_equals_torch(schedule: str) -> None:
    settings = TrainSettings(lr=0.5, epochs=40, schedule=schedule, step_epochs=15)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    oracle: torch.optim.lr_scheduler.LRScheduler
    if schedule == "step":
        oracle = torch.optim.lr_scheduler.StepLR(optimizer, 15, gamma=0.1)
    else:
        oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for epoch in range(40):
        ours = learning_rate(epoch, steps_per_epoch=1, settings=settings)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        oracle.step()


def test_warmup_rises_linearly_and_meets_the_schedule() -> None:
    settings = TrainSettings(lr=1.0, epochs=10, schedule="cosine", warmup_epochs=2)
    rates = [learning_rate(step, steps_per_epoch=4, settings=settings) for step in range(40)]
    assert rates[:8] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert rates[8] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[8:]))


def test_adamw_decays_matrices_only() -> None:
    layer = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = build_optimizer(layer, TrainSettings(optimizer="adamw", weight_decay=0.1))
    decayed = {p.shape for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {torch.Size([3, 3])}


def test_adam_step_is_the_formula() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    holder = nn.ParameterList([weight])
    settings = TrainSettings(lr=0.1, weight_decay=0.5)
    optimizer = build_optimizer(holder, settings)
    weight.grad = torch.tensor([3.0])
    optimizer.step()
    # first Adam step: lr * sign of (gradient + decay * weight), whatever its size
    assert weight.item() == pytest.approx(1.9, abs=1e-5)


def test_average_follows_the_formula_and_swaps_back() -> None:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = AveragedWeights(layer, decay=0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0], start=1):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update(layer)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    average.swap(layer)
    assert layer.weight.item() == pytest.approx(expected)
    average.swap(layer)
    assert layer.weight.item() == 4.0
