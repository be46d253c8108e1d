"""Operations counted and fractions, against values worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from machine import roofline
from machine.roofline import Ceiling, Flops, count_flops, fraction_reached


def test_operations_by_hand() -> None:
    conv, linear = nn.Conv2d(3, 8, 5, stride=2), nn.Linear(7, 11)
    images, rows = torch.ones(2, 3, 21, 17), torch.ones(6, 7)
    with torch.no_grad():
        flops = count_flops(lambda: (conv(images), linear(rows)))
    # 9 x 7 places, 8 filters of 3 x 5 x 5; two operations a weight
    assert flops == Flops(2 * 2 * 9 * 7 * 8 * 75, 2 * 6 * 7 * 11)
    assert flops.total == flops.convolution + flops.product


def test_backward_pass_counts_too() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    images = torch.ones(1, 4, 8, 8, requires_grad=True)
    forward = count_flops(lambda: conv(images).detach()).convolution
    both = count_flops(lambda: conv(images).sum().backward()).convolution
    assert both == 3 * forward  # gradients of images and weights cost as much as the way there


def test_fraction_by_hand() -> None:
    ceiling = Ceiling(product=100.0, convolution=50.0)
    # 2 s of convolutions and 1 s of products at the least, 12 s taken
    assert fraction_reached(Flops(100, 100), 12.0, ceiling) == pytest.approx(0.25)


def test_ceilings_are_rates_of_one_product_and_one_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roofline, "SIDES", {"cpu": (32, 256)})
    monkeypatch.setattr(roofline, "CONVOLUTIONS", {"cpu": ((1, 16, 16),)})
    ceilings = roofline.measure_ceilings(torch.device("cpu"), rounds=3)
    assert set(ceilings) == {"fp32", "bf16"}
    for ceiling in ceilings.values():
        # between a clock from 1980 and ten times the fastest processors
        assert 1e6 < ceiling.product < 1e15
        assert 1e6 < ceiling.convolution < 1e15
    assert roofline.to_json(ceilings)["fp32"]["product"] == ceilings["fp32"].product
