"""The losses by hand, against torch.distributions, open_clip and a CLIP loss written anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional

from helpers import assert_close, fill, import_open_clip
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.model.losses import (
    ContrastiveLoss,
    contrastive_loss,
    kl_loss,
    pair_targets,
)
from mfclip.model.spa import SamplePairAttention


def make_features(n: int, d: int = 6, shift: float = 0.0) -> Tensor:
    wave = torch.sin(torch.arange(n * d, dtype=torch.float64) ** 1.5 * 0.8 + shift)
    return functional.normalize(wave.view(n, d), dim=1).float()


def clip_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """CLIP's loss, straight from its paper."""
    logits = scale * images @ texts.T
    place = torch.arange(len(logits))
    return (functional.cross_entropy(logits, place) + functional.cross_entropy(logits.T, place)) / 2


# contrastive


def test_contrastive_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    # probabilities of the diagonal by rows 3/4 and 1/2, by columns the same
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert contrastive_loss(logits).item() == pytest.approx(expected, abs=1e-6)
    skew = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    # by rows 1/4 and 1/2, by columns 1/2 and 1/4
    assert contrastive_loss(skew).item() == pytest.approx((math.log(4) + math.log(2)) / 2, abs=1e-6)


def test_both_directions_count_equally() -> None:
    logits = torch.sin(torch.arange(16.0) ** 1.3).view(4, 4)
    assert_close(contrastive_loss(logits), contrastive_loss(logits.T))
    rows = functional.cross_entropy(logits, torch.arange(4))
    columns = functional.cross_entropy(logits.T, torch.arange(4))
    assert abs(rows - columns) > 0.01
    assert_close(contrastive_loss(logits), (rows + columns) / 2)


def test_plain_loss_is_clips() -> None:
    images, texts = make_features(6), make_features(6, shift=1)
    expected = clip_loss(images, texts, 14.3)
    assert_close(ContrastiveLoss()(images, texts, 14.3), expected)
    theirs = import_open_clip("loss").ClipLoss()
    assert_close(ContrastiveLoss()(images, texts, 14.3), theirs(images, texts, torch.tensor(14.3)))


@pytest.mark.parametrize("mode", ["batch", "content"])
def test_spa_drops_into_clip_and_vanishes_with_very_large_weights(mode: str) -> None:
    attention = SamplePairAttention(mode, batch_size=6, embed_dim=6)
    (attention.weight if mode == "batch" else attention.bias).data.fill_(1e4)
    images, texts = make_features(6), make_features(6, shift=1)
    loss = ContrastiveLoss(attention)(images, texts, 14.3)
    assert_close(loss, clip_loss(images, texts, 14.3))


def test_spa_acts_on_the_logits_before_the_softmax() -> None:
    attention = fill(SamplePairAttention("batch", batch_size=4))
    images, texts = make_features(4), make_features(4, shift=1)
    logits = 9 * images @ texts.T * torch.sigmoid(attention.weight)
    place = torch.arange(4)
    rows, columns = (functional.cross_entropy(part, place) for part in (logits, logits.T))
    assert_close(ContrastiveLoss(attention)(images, texts, 9.0), (rows + columns) / 2)


def test_literal_mode_splits_and_leaves_the_features_plain_infonce() -> None:
    attention = fill(SamplePairAttention("batch", batch_size=4))
    features = [make_features(4), make_features(4, shift=1)]
    literal = [part.clone().requires_grad_() for part in features]
    plain = [part.clone().requires_grad_() for part in features]
    loss = ContrastiveLoss(attention, literal=True)(*literal, 9.0)

    # Eq. 9-12 as printed: weights behind the softmax
    logits, gate = 9 * features[0] @ features[1].T, torch.sigmoid(attention.weight)
    printed = [-(part.softmax(1) * gate).diagonal().log().mean() for part in (logits, logits.T)]
    assert_close(loss, sum(printed) / 2)

    loss.backward()
    clip_loss(*plain, 9.0).backward()
    for mine, theirs in zip(literal, plain, strict=True):
        assert_close(mine.grad, theirs.grad)
    gradient = attention.weight.grad
    assert gradient.masked_fill(torch.eye(4, dtype=torch.bool), 0).eq(0).all()
    assert (gradient.diagonal() < 0).all()  # A_ii only grows


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("mode", ["batch", "content"])
def test_gradcheck_of_the_whole_contrastive_loss(mode: str, literal: bool) -> None:
    attention = fill(SamplePairAttention(mode, batch_size=3, embed_dim=6)).double()
    loss = ContrastiveLoss(attention, literal=literal)
    images = make_features(3).double().requires_grad_()
    texts = make_features(3, shift=1).double().requires_grad_(mode == "batch")
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (images, texts, scale))


# shared prompts


def test_pair_targets_by_hand() -> None:
    third, half = 1 / 3, 1 / 2
    expected = [
        [third, 0, third, 0, third],
        [0, half, 0, half, 0],
        [third, 0, third, 0, third],
        [0, half, 0, half, 0],
        [third, 0, third, 0, third],
    ]
    torch.testing.assert_close(
        pair_targets(torch.tensor([4, 9, 4, 9, 4])[:, None]), torch.tensor(expected)
    )


def test_distinct_prompts_share_nothing() -> None:
    torch.testing.assert_close(pair_targets(torch.arange(5)[:, None]), torch.eye(5))
    images, texts = make_features(5), make_features(5, shift=1)
    shared = ContrastiveLoss(beta=math.inf)(images, texts, 9.0, torch.arange(5)[:, None])
    assert_close(shared, clip_loss(images, texts, 9.0))


def test_with_equal_prompts_the_minimum_is_reachable() -> None:
    ids = torch.tensor([0, 1, 0, 2, 0, 1])[:, None]
    corners = torch.eye(3)[ids[:, 0]]  # images stand at their prompts, prompts at right angles
    loss = ContrastiveLoss(beta=math.inf)(corners, corners, 100.0, ids)
    minimum = np.mean([entropy(row.numpy()) for row in pair_targets(ids)])
    assert loss.item() == pytest.approx(minimum, abs=1e-5)
    moved = functional.normalize(corners + 0.1 * make_features(6, 3), dim=1).requires_grad_()
    ContrastiveLoss(beta=math.inf)(moved, corners, 100.0, ids).backward()
    assert moved.grad.abs().max() > 0
    assert ContrastiveLoss(beta=math.inf)(moved, corners, 100.0, ids).item() > minimum


def test_without_spa_equal_prompts_have_tied_columns_and_shared_targets_change_nothing() -> None:
    ids = torch.tensor([0, 1, 0, 2, 0, 1])[:, None]
    texts = make_features(3, shift=1)[ids[:, 0]]
    images = make_features(6)
    shared = ContrastiveLoss(beta=math.inf)(images, texts, 9.0, ids)
    assert_close(shared, clip_loss(images, texts, 9.0))


def test_shared_targets_let_places_of_equal_prompts_be_exchanged_under_spa() -> None:
    # A differs from place to place: with one-hot targets two samples with one prompt compete
    ids = torch.tensor([0, 0, 1])[:, None]
    target = pair_targets(ids)
    logits = torch.sin(torch.arange(9.0)).view(3, 3)
    order = torch.tensor([1, 0, 2])
    assert_close(contrastive_loss(logits, target), contrastive_loss(logits[order], target))
    assert abs(contrastive_loss(logits) - contrastive_loss(logits[order])) > 0.01


# KL and cross-entropy


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_kl_loss_equals_torch_distributions(temperature: float) -> None:
    predicted, language = make_features(5) * 3, make_features(5, shift=1) * 3
    true = Categorical(logits=language / temperature)
    guess = Categorical(logits=predicted / temperature)
    expected = kl_divergence(true, guess).mean()
    assert_close(kl_loss(predicted, language, temperature), expected)
    assert abs(kl_divergence(guess, true).mean() - expected) > 1e-3  # the direction matters


def test_kl_loss_by_hand() -> None:
    language = torch.tensor([[math.log(3) / 2, 0.0]])  # at temperature 0.5: 3/4, 1/4
    predicted = torch.tensor([[0.0, 0.0]])  # 1/2, 1/2
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_loss(predicted, language).item() == pytest.approx(expected, abs=1e-6)
    assert entropy([0.75, 0.25], [0.5, 0.5]) == pytest.approx(expected)
    assert kl_loss(language, language).item() == pytest.approx(0, abs=1e-7)


def test_cross_entropy_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])  # fake: 3/4, 1/5
    target = torch.tensor([1, 1])
    expected = (math.log(4 / 3) + math.log(5)) / 2
    assert cross_entropy_loss(logits, target).item() == pytest.approx(expected, abs=1e-6)
    # smoothing 0.2 gives the other class 0.1
    smooth = 0.9 * math.log(4 / 3) + 0.1 * math.log(4) + 0.9 * math.log(5) + 0.1 * math.log(5 / 4)
    assert cross_entropy_loss(logits, target, 0.2).item() == pytest.approx(smooth / 2, abs=1e-6)


def test_gradcheck_of_the_pure_losses() -> None:
    a, b = (make_features(3, shift=s).double().requires_grad_() for s in (0, 1))
    target = pair_targets(torch.tensor([0, 1, 0])[:, None])
    assert torch.autograd.gradcheck(kl_loss, (a, b))
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x[:, :3], target), (a,))
    labels = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda x: cross_entropy_loss(x[:, :2], labels, 0.1), (a,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    a, b = make_features(4).to(dtype), make_features(4, shift=1).to(dtype)
    labels = torch.tensor([0, 1, 1, 0])
    with torch.autocast("cpu", torch.bfloat16):
        losses = [
            kl_loss(a, b),
            cross_entropy_loss(a[:, :2], labels),
            ContrastiveLoss(fill(SamplePairAttention("batch", batch_size=4)))(a, b, 14.3),
        ]
    expected = [
        kl_loss(a.float(), b.float()),
        cross_entropy_loss(a.float()[:, :2], labels),
        ContrastiveLoss(fill(SamplePairAttention("batch", batch_size=4)))(
            a.float(), b.float(), 14.3
        ),
    ]
    for loss, exact in zip(losses, expected, strict=True):
        assert loss.dtype == torch.float32
        assert_close(loss, exact)
