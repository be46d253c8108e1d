"""One logit against two, and against sums by hand; the last layer against torch's."""

from __future__ import annotations

import torch
from torch import nn

from helpers import fill
from mfclip.layers.verdict import FullPrecisionLinear, binary_cross_entropy, two_columns


def test_one_logit_is_two() -> None:
    logit, target = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([1, 1, 0])
    for smoothing in (0.0, 0.1):
        both = torch.nn.functional.cross_entropy(
            two_columns(logit), target, label_smoothing=smoothing
        )
        torch.testing.assert_close(binary_cross_entropy(logit, target, smoothing), both)


def test_a_fake_may_count_more_often() -> None:
    logit, target = torch.tensor([0.0, 1.0]), torch.tensor([1, 0])
    by_hand = (0.25 * torch.tensor(0.5).log() + (1 - torch.tensor(1.0).sigmoid()).log()) / -2
    torch.testing.assert_close(binary_cross_entropy(logit, target, fake_weight=0.25), by_hand)


def test_half_precision_is_raised() -> None:
    assert binary_cross_entropy(torch.zeros(1).bfloat16(), torch.tensor([1])).dtype == torch.float32


def test_a_full_precision_layer_is_a_linear_one_that_autocast_does_not_round() -> None:
    layer = fill(FullPrecisionLinear(16, 2))
    plain = nn.Linear(16, 2)
    plain.load_state_dict(layer.state_dict())
    values = torch.linspace(-1, 1, 48).view(3, 16).requires_grad_()
    torch.testing.assert_close(layer(values), plain(values))
    (own,) = torch.autograd.grad(layer(values).square().sum(), values)
    (expected,) = torch.autograd.grad(plain(values).square().sum(), values)
    torch.testing.assert_close(own, expected)
    outside = layer(values)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(values), outside, rtol=0, atol=0)
        assert plain(values).dtype == torch.bfloat16
