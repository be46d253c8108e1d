"""SPA: by hand, its limits, any batch size, and what its two modes can know."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from helpers import assert_close, fill
from mfclip.errors import ConfigError
from mfclip.model.losses import ContrastiveLoss, pair_targets
from mfclip.model.spa import LEAKING_MODES, SamplePairAttention, weigh_pairs


def make_features(n: int, d: int = 6, shift: float = 0.0) -> Tensor:
    wave = torch.sin(torch.arange(n * d, dtype=torch.float32) ** 1.5 * 0.8 + shift)
    return functional.normalize(wave.view(n, d), dim=1)


def batch_attention(weight: Tensor) -> SamplePairAttention:
    attention = SamplePairAttention("batch", batch_size=len(weight))
    attention.weight.data = weight
    return attention


def test_2x2_by_hand() -> None:
    attention = batch_attention(torch.tensor([[0.0, math.log(3)], [-math.log(3), 100.0]]))
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    texts = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # similarities [[0, 1], [.8, .6]], scale 10, sigmoids [[1/2, 3/4], [1/4, 1]]
    expected = torch.tensor([[0.0, 7.5], [2.0, 6.0]])
    assert_close(attention(images, texts, 10.0), expected)


def test_it_starts_at_a_known_constant() -> None:
    images, texts = make_features(4), make_features(4, shift=1)
    logits = SamplePairAttention("batch", batch_size=4)(images, texts, 8.0)
    assert_close(logits, 4.0 * images @ texts.T)  # sigmoid(0) = 1/2


def test_very_large_weights_give_plain_clip_logits() -> None:
    images, texts = make_features(5), make_features(5, shift=1)
    kept = batch_attention(torch.full((5, 5), 1e4))(images, texts, 14.3)
    assert_close(kept, 14.3 * images @ texts.T)
    content = SamplePairAttention("content", embed_dim=6)
    content.bias.data.fill_(1e4)
    assert_close(content(images, texts, 14.3), 14.3 * images @ texts.T)


def test_very_small_weights_switch_pairs_off() -> None:
    images, texts = make_features(5), make_features(5, shift=1)
    gone = batch_attention(torch.full((5, 5), -1e4))(images, texts, 14.3)
    assert gone.eq(0).all()


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_weighted_logit_never_grows_nor_changes_sign(similarity: float, weight: float) -> None:
    out = weigh_pairs(torch.tensor([[similarity]]), torch.tensor([[weight]])).item()
    assert abs(out) <= abs(similarity) + 1e-6
    assert out * similarity >= 0
    expected = similarity / (1 + math.exp(-weight))
    assert out == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_smaller_last_batch_uses_the_leading_part(n: int) -> None:
    weight = torch.sin(torch.arange(64.0)).view(8, 8)
    images, texts = make_features(n), make_features(n, shift=1)
    expected = 5 * images @ texts.T * torch.sigmoid(weight[:n, :n])
    assert_close(batch_attention(weight)(images, texts, 5.0), expected)


def test_a_larger_batch_is_refused_with_what_to_do() -> None:
    attention = SamplePairAttention("batch", batch_size=4)
    with pytest.raises(ConfigError, match=r"at most 4 samples .*got 5; raise spa\.batch_size"):
        attention(make_features(5), make_features(5), 1.0)


@pytest.mark.parametrize("n", [1, 2, 24, 25, 100])
def test_content_mode_takes_any_batch_and_permutes_with_it(n: int) -> None:
    attention = fill(SamplePairAttention("content", embed_dim=6))
    images, texts = make_features(n), make_features(n, shift=1)
    logits = attention(images, texts, 3.0)
    order = torch.arange(n).flip(0).roll(1)
    shuffled = attention(images[order], texts[order], 3.0)
    assert_close(shuffled, logits[order][:, order])


def test_content_mode_by_its_formula() -> None:
    attention = fill(SamplePairAttention("content", embed_dim=6))
    texts = make_features(4)
    query = texts @ attention.query.weight.T + attention.query.bias
    key = texts @ attention.key.weight.T + attention.key.bias
    expected = query @ key.T / math.sqrt(6) + attention.bias
    assert_close(attention.relevance(texts, texts), expected)


def test_a_pairs_weight_in_content_mode_is_that_of_its_prompts() -> None:
    attention = fill(SamplePairAttention("content", embed_dim=6))
    texts = make_features(3)[[0, 1, 0, 2, 1]]
    weight = attention.relevance(texts, texts)
    assert_close(weight[0], weight[2])
    assert_close(weight[:, 1], weight[:, 4])
    alone = attention.relevance(texts[:2], texts[:2])  # the same two prompts in another batch
    assert_close(alone, weight[:2, :2])


def test_batch_mode_is_bound_to_places() -> None:
    weight = torch.sin(torch.arange(16.0)).view(4, 4)
    images, texts = make_features(4), make_features(4, shift=1)
    attention, order = batch_attention(weight), torch.tensor([1, 0, 3, 2])
    shuffled = attention(images[order], texts[order], 3.0)
    assert (shuffled - attention(images, texts, 3.0)[order][:, order]).abs().max() > 0.01


def test_content_weights_do_not_pull_at_the_text_features() -> None:
    attention = fill(SamplePairAttention("content", embed_dim=6))
    texts = make_features(4).requires_grad_()
    weight = attention.relevance(texts, texts)
    assert not texts.grad_fn
    weight.sum().backward()
    assert texts.grad is None
    assert attention.query.weight.grad.abs().max() > 0


@pytest.mark.parametrize("mode", ["batch", "content"])
def test_gradcheck(mode: str) -> None:
    attention = fill(SamplePairAttention(mode, batch_size=3, embed_dim=6)).double()
    images = make_features(3).double().requires_grad_()
    texts = make_features(3, shift=1).double()
    texts.requires_grad_(mode == "batch")  # content mode detaches them in one place
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (images, texts, scale))


@pytest.mark.parametrize("mode", ["batch", "content"])
def test_gradients_reach_the_weights(mode: str) -> None:
    attention = fill(SamplePairAttention(mode, batch_size=4, embed_dim=6))
    logits = attention(make_features(4), make_features(4, shift=1), 3.0)
    logits.square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


# features


def test_features_mode_by_its_formula() -> None:
    attention = fill(SamplePairAttention("features", embed_dim=6))
    images, texts = make_features(4), make_features(4, shift=1)
    query = images @ attention.query.weight.T + attention.query.bias
    key = texts @ attention.key.weight.T + attention.key.bias
    expected = query @ key.T / math.sqrt(6) + attention.bias
    assert_close(attention.relevance(images, texts), expected)


def test_a_gate_of_features_knows_neither_place_nor_batch() -> None:
    attention = fill(SamplePairAttention("features", embed_dim=6))
    images, texts = make_features(7), make_features(7, shift=1)
    whole = attention(images, texts, 3.0)
    rows, columns = torch.tensor([4, 0]), torch.tensor([1, 6])
    assert_close(attention(images[rows], texts[columns], 3.0), whole[rows][:, columns])


def test_a_gate_of_features_pulls_at_none_of_them() -> None:
    attention = fill(SamplePairAttention("features", embed_dim=6))
    images, texts = (make_features(4, shift=s).requires_grad_() for s in (0, 1))
    attention.relevance(images, texts).sum().backward()
    assert images.grad is None
    assert texts.grad is None
    assert attention.query.weight.grad.abs().max() > 0


@pytest.mark.parametrize("beta", [None, math.inf, 6.0])
@pytest.mark.parametrize("mode", ["none", "features", "literal", "batch", "content"])
def test_only_leaking_modes_fall_below_the_bound_of_a_loss_that_sees_no_image(
    mode: str, beta: float | None
) -> None:
    """Train on one repeated image vector: what is learned then is not about images.

    Rows all alike can at best say the mean target q; columns, constant, say 1 / n. So the loss is
    at least (H(q) + log n) / 2 if the gate depends on nothing but the two features.
    """
    torch.manual_seed(0)
    n, kinds = 12, torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    sentences = torch.tensor([[0, 9, -1], [1, 5, 7], [1, 5, 8], [1, 6, 7], [1, 6, 8]])[kinds]
    texts = nn.Parameter(functional.normalize(torch.randn(5, 16), dim=1))
    vector = nn.Parameter(torch.randn(1, 16))
    attention = None
    if mode != "none":
        attention = SamplePairAttention(
            "batch" if mode in {"batch", "literal"} else mode, batch_size=n, embed_dim=16
        )
    loss = ContrastiveLoss(attention, beta=beta, literal=mode == "literal")
    learned = [vector, texts, *loss.parameters()]
    optimizer = torch.optim.Adam(learned, lr=0.03)
    values = []
    for _ in range(400):
        order = torch.randperm(n) if mode == "content" else torch.arange(n)
        unit = functional.normalize(vector, dim=1).expand(n, -1)
        names = functional.normalize(texts, dim=1)[kinds[order]]
        value = loss(unit, names, 14.3, sentences[order])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    target = torch.eye(n) if beta is None else pair_targets(sentences, beta)
    mean = target.mean(0)
    bound = (-(mean * mean.log()).sum().item() + math.log(n)) / 2
    assert (min(values) < bound - 0.05) == (mode in LEAKING_MODES)
