"""Schedules against torch's own, averages against the formula."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import nn

from mfclip.config import TrainSettings
from mfclip.errors import ConfigError
from mfclip.train.optimiser import (
    AveragedWeights,
    build_optimizer,
    choose_learning,
    count_reductions,
    learning_rate,
    set_learning_rate,
)


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


def test_sgd_step_is_torchs() -> None:
    ours, torchs = (nn.ParameterList([nn.Parameter(torch.tensor([2.0]))]) for _ in range(2))
    settings = TrainSettings(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.2)
    oracle = torch.optim.SGD(torchs.parameters(), lr=0.1, momentum=0.5, weight_decay=0.2)
    optimizer = build_optimizer(ours, settings)
    for gradient in (3.0, -1.0, 2.0):
        for weights, each in ((ours, optimizer), (torchs, oracle)):
            weights[0].grad = torch.tensor([gradient])
            each.step()
    assert ours[0].item() == torchs[0].item() != 2.0


def test_steps_can_be_counted_in_iterations_with_another_factor() -> None:
    settings = TrainSettings(lr=1.0, epochs=100, step_iterations=7, step_gamma=0.5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.StepLR(optimizer, 7, gamma=0.5)
    for step in range(40):
        ours = learning_rate(step, steps_per_epoch=3, settings=settings)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("warmup", [{"warmup_epochs": 2.0}, {"warmup_share": 0.2}])
def test_onecycle_is_torchs_linear_rise_and_cosine(warmup: dict[str, float]) -> None:
    settings = TrainSettings(lr=0.5, epochs=10, schedule="onecycle", final_lr=0.01, **warmup)
    rates = [learning_rate(step, steps_per_epoch=4, settings=settings) for step in range(40)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 8, total_iters=7)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 31, eta_min=0.01)
    for step in range(40):
        assert rates[step] == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        # torch's SequentialLR calls a deprecated form of step, so the two are joined here
        (rise if step < 7 else fall if step > 7 else _Nothing()).step()
    assert max(rates) == rates[7] == rates[8] == 0.5
    assert rates[-1] == pytest.approx(0.01)


class _Nothing:
    def step(self) -> None:
        """The first step of the fall has its full height."""


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_torchs(patience: int) -> None:
    figures = [0.5, 0.6, 0.6, 0.55, 0.59, 0.61, 0.6, 0.6, 0.6, 0.6, 0.62, 0.1, 0.2, 0.3, 0.4, 0.5]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=0.0
    )
    settings = TrainSettings(lr=1.0, schedule="plateau", step_gamma=0.5)
    for count, figure in enumerate(figures, start=1):
        oracle.step(figure)
        reductions = count_reductions(figures[:count], patience)
        ours = learning_rate(9, steps_per_epoch=1, settings=settings, reductions=reductions)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])


class Tower(nn.Module):
    """Parts as a large tower has them, and one parameter that never learns."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 2)
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)


def learning(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


def test_patterns_choose_what_learns_and_the_rest_keeps_its_statistics() -> None:
    tower = Tower()
    still = choose_learning(tower, TrainSettings(learn=("norm.*", "head.w*")))
    assert learning(tower) == {"norm.weight", "norm.bias", "head.weight"}
    assert still == [tower.body]
    tower = Tower()
    still = choose_learning(tower, TrainSettings(learn=("body.1.*", "head.*"), freeze=("head",)))
    assert learning(tower) == {"body.1.weight", "body.1.bias"}
    assert still == [tower.head, tower.body[0], tower.body[2], tower.norm, tower.head]
    tower = Tower()
    assert choose_learning(tower, TrainSettings()) == []
    assert learning(tower) == dict(tower.named_parameters()).keys() - {"fixed"}


@pytest.mark.parametrize("pattern", ["*norms*", "fixed"])
def test_a_pattern_without_parameters_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=rf"train\.learn: no .* like '{re.escape(pattern)}'; the"):
        choose_learning(Tower(), TrainSettings(learn=("head.*", pattern)))
    settings = TrainSettings(groups=({"match": pattern, "lr": 1.0},))
    with pytest.raises(ConfigError, match=r"train\.groups: no parameter that learns .*body\.0"):
        build_optimizer(Tower(), settings)


def test_groups_have_their_own_rate_under_the_schedule() -> None:
    tower = Tower()
    settings = TrainSettings(
        optimizer="adamw",
        lr=0.1,
        weight_decay=0.3,
        groups=({"match": "body.*", "lr": 0.01}, {"match": "*.weight", "lr": 1.0}),
    )
    optimizer = build_optimizer(tower, settings)
    set_learning_rate(optimizer, 0.05)  # half way down
    name_of = {parameter: name for name, parameter in tower.named_parameters()}
    found = {
        name_of[parameter]: (round(group["lr"], 6), group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        "body.0.weight": (0.005, 0.3), "body.0.bias": (0.005, 0.0),
        "body.1.weight": (0.005, 0.0), "body.1.bias": (0.005, 0.0),
        "body.2.weight": (0.005, 0.3), "body.2.bias": (0.005, 0.0),
        "norm.weight": (0.5, 0.0), "norm.bias": (0.05, 0.0),
        "head.weight": (0.5, 0.3), "head.bias": (0.05, 0.0),
    }  # fmt: skip


def test_what_is_not_averaged_is_copied() -> None:
    layer = nn.Linear(1, 1)
    layer.register_buffer("moments", torch.zeros(2))
    layer.not_averaged = ("mom*",)
    average = AveragedWeights(layer, decay=0.9)
    with torch.no_grad():
        layer.moments.fill_(5.0)
        layer.weight.add_(1.0)
    average.update(layer)
    assert average.tensors["moments"].tolist() == [5.0, 5.0]
    assert average.tensors["weight"].item() != layer.weight.item()
