"""One logit against two, and against sums by hand."""

from __future__ import annotations

import torch

from mfclip.layers.verdict import binary_cross_entropy, two_columns


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
