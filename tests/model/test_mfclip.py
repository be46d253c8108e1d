"""The whole: loss terms, gradients, prompts, dropping the text half, overfitting one batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helpers import KINDS, TINY, assert_close, fill, pictures, tiny_batch, tiny_model
from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import WeightsError
from mfclip.labels import LEVELS, Labels
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.model.build import create_model
from mfclip.model.ftg import number_sentences, prompt_labels, prompts
from mfclip.model.losses import kl_loss
from mfclip.model.mfclip import MFCLIP
from mfclip.model.tokenizer import tokenize

ALL = {"cross_entropy", "contrastive", "kl"}


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def test_scores_do_not_depend_on_the_batch() -> None:
    model, images = tiny_model().eval(), pictures(25)
    alone = torch.cat([model(image[None]) for image in images])
    for b in (2, 24, 25):
        assert_close(model(images[:b]), alone[:b])
    assert_close(model(images.flip(0)), alone.flip(0))


def test_features_have_length_1_and_the_head_is_layer_norm_and_linear() -> None:
    model, images = tiny_model().eval(), pictures(3)
    vision = model.encode_image(images)
    assert_close(vision.norm(dim=1), torch.ones(3))
    raw = model.vision_encoder(images)
    assert_close(vision, raw / raw.norm(dim=1, keepdim=True))
    norm, _, linear = model.head
    expected = functional.layer_norm(vision, (16,), norm.weight, norm.bias) @ linear.weight.T
    assert_close(model(images), expected + linear.bias)
    assert_close(model.classify(7 * raw), model(images))  # length does not matter
    text = model.encode_text(tokenize([prompts(kind) for kind in KINDS]))
    assert_close(text.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ALL),
        ({"use_predictor": False}, {"cross_entropy", "contrastive"}),
        ({"use_text": False}, {"cross_entropy"}),
        ({"use_noise": False}, ALL),
        ({"use_image": False}, ALL),
        ({"spa": {"mode": "none"}}, ALL),
        ({"spa": {"mode": "literal"}}, ALL),
        (
            {"spa": {"mode": "content", "targets": "equal"}},
            ALL,
        ),
        ({"text": {"max_levels": 2}}, ALL),
    ],
)
def test_every_parameter_of_a_step_receives_a_finite_gradient(
    changes: dict[str, object], names: set[str]
) -> None:
    model = tiny_model(**changes).train()
    terms = model.loss(tiny_batch())
    assert set(terms) == names
    total(terms).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    if "contrastive" in names:
        assert model.log_logit_scale.grad.abs() > 0
    for part in (model.vision_encoder, model.language_encoder, model.predictor):
        if part is not None:
            assert sum(p.grad.abs().sum() for p in part.parameters()) > 0


def test_frozen_parts_receive_no_gradient() -> None:
    model = tiny_model().train()
    model.language_encoder.requires_grad_(False)
    total(model.loss(tiny_batch())).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("language_encoder."), name


def test_loss_terms_are_the_three_losses() -> None:
    model, batch = tiny_model().eval(), tiny_batch()
    terms = model.loss(batch)
    vision = model.encode_image(batch.images)
    # encode every sample's own prompt, not each distinct prompt once
    texts = [prompts(label) for label in batch.labels]
    ids = tokenize(texts)
    raw, language = model.language_encoder(ids), model.encode_text(ids)
    attention = model.contrastive.attention
    gate = attention.query(vision) @ attention.key(language).T / 16**0.5 + attention.bias
    logits = model.log_logit_scale.exp() * vision @ language.T * torch.sigmoid(gate)
    share = torch.tensor([
        [sum(x == y for x, y in zip(a, b, strict=False)) / max(len(a), len(b)) for b in texts]
        for a in texts
    ])  # fmt: skip
    target = (8 * share).softmax(1)
    columns = target.T / target.T.sum(1, keepdim=True)
    both = -(target * logits.log_softmax(1)).sum(1) - (columns * logits.T.log_softmax(1)).sum(1)
    assert_close(terms["contrastive"], both.mean() / 2)
    assert_close(terms["kl"], kl_loss(model.predictor(vision), raw, 0.5))
    assert_close(terms["cross_entropy"], cross_entropy_loss(model.classify(vision), batch.target))


def test_loss_settings_weigh_the_terms() -> None:
    settings = LossSettings(contrastive=2.0, kl=0.5, cross_entropy=3.0, kl_temperature=0.5)
    plain, weighted = tiny_model().eval(), tiny_model().eval()
    weighted.loss_settings = settings
    batch = tiny_batch()
    for name, term in weighted.loss(batch).items():
        assert_close(term, getattr(settings, name) * plain.loss(batch)[name])


def test_distinct_prompts_encoded_once_give_the_same_gradients() -> None:
    one, other, batch = tiny_model(), tiny_model(), tiny_batch()
    total(one.eval().loss(batch)).backward()
    vision = other.eval().encode_image(batch.images)
    raw = other.language_encoder(tokenize([prompts(label) for label in batch.labels]))
    sentences = number_sentences(batch.labels)
    unit = functional.normalize(raw, dim=-1)
    loss = other.contrastive(vision, unit, other.logit_scale, sentences)
    loss = loss + kl_loss(other.predictor(vision), raw, 0.5)
    (loss + cross_entropy_loss(other.classify(vision), batch.target)).backward()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert_close(mine.grad, theirs.grad, factor=10)


def test_text_is_encoded_once_a_distinct_prompt() -> None:
    model, seen = tiny_model(spa={"mode": "content"}), []
    encoder = model.language_encoder
    encoder.token_embedding.register_forward_hook(lambda _m, args, _out: seen.append(len(args[0])))
    model.loss(tiny_batch(24))
    assert seen == [len(KINDS)]


def test_samples_with_one_prompt_share_their_numbers() -> None:
    model = tiny_model(text={"max_levels": 2})
    one = Labels(True, "face_swap", "gan", "FSLSD")
    other = Labels(True, "face_swap", "diffusion", "DiffFace")  # equal down to level 2
    features, ids = model._encode_labels([one, Labels(False), other])
    assert ids[0].tolist() == ids[2].tolist()
    assert ids[0].tolist() != ids[1].tolist()
    assert_close(features[0], features[2])
    _, later = model._encode_labels([other])
    assert later[0].tolist() == ids[0].tolist()  # they belong to the prompt, on every process


def test_the_logit_scale_starts_at_1_over_tau_and_is_clamped() -> None:
    model = create_model("mfclip", **TINY)
    assert model.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-6)
    model.log_logit_scale.data.fill_(9.0)
    assert model.logit_scale.item() == 100


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    model = create_model("mfclip", **TINY).train()
    batch = dataclasses.replace(tiny_batch(), images=torch.rand(8, 3, 32, 32))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = total(model.loss(batch)).item()
    for _ in range(40):
        optimizer.zero_grad()
        total(model.loss(batch)).backward()
        optimizer.step()
    terms = model.loss(batch)
    assert terms["cross_entropy"] < 0.05
    assert total(terms) < 0.5 * first
    assert model(batch.images).argmax(1).tolist() == batch.target.tolist()


def test_bf16_autocast_keeps_loss_terms_in_float32() -> None:
    model, batch = tiny_model().eval(), tiny_batch()
    expected = model.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(batch)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert_close(term.bfloat16(), expected[name].bfloat16(), factor=5)


# prompts at use


def remembering() -> MFCLIP:
    model = tiny_model().eval()
    model.remember_prompts([*KINDS, *KINDS, Labels(False, generator="ffhq")])
    return model


def test_remembered_prompts_are_the_distinct_ones_with_their_features() -> None:
    model = remembering()
    assert set(model.prompts) == {prompt_labels(kind) for kind in KINDS}
    expected = model.encode_text(tokenize([prompts(kind) for kind in model.prompts]))
    assert_close(model.prompt_features, expected)
    assert not model.prompt_features.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_remembering_leaves_the_mode_as_it_was(training: bool) -> None:
    model = tiny_model().train(training)
    model.remember_prompts(KINDS)
    assert {module.training for module in model.modules()} == {training}


def test_prompt_probabilities_are_a_softmax_over_prompts() -> None:
    model = remembering()
    vision = model.encode_image(pictures(3))
    probabilities = model.prompt_probabilities(vision)
    assert_close(probabilities.sum(1), torch.ones(3))
    logits = model.log_logit_scale.exp() * vision @ model.prompt_features.T
    assert_close(probabilities, logits.exp() / logits.exp().sum(1, keepdim=True))
    own = model.prompt_probabilities(model.prompt_features)
    assert own.argmax(1).tolist() == list(range(len(model.prompts)))


def test_level_probabilities_sum_prompts_by_name() -> None:
    model = remembering()
    vision = model.encode_image(pictures(2))
    flat = model.prompt_probabilities(vision)
    levels = model.level_probabilities(vision)
    assert tuple(levels) == LEVELS
    for names, probabilities in levels.values():
        assert names == tuple(sorted(names))
        assert_close(probabilities.sum(1), torch.ones(2))
    names, probabilities = levels["family"]
    assert names == ("diffusion", "gan", "real")
    gan = [i for i, labels in enumerate(model.prompts) if labels.family == "gan"]
    assert_close(probabilities[:, 1], flat[:, gan].sum(1))
    assert levels["label"][0] == ("fake", "real")
    assert levels["generator"][0] == ("DDPM", "Diffae", "FSLSD", "StyleGAN3", "real")


def test_levels_that_a_prompt_does_not_tell_are_unknown() -> None:
    model = tiny_model().eval()
    model.remember_prompts([Labels(False), Labels(True), Labels(True, "face_swap")])
    levels = model.level_probabilities(model.encode_image(pictures(1)))
    assert levels["manipulation"][0] == ("face_swap", "real", "unknown")
    assert levels["generator"][0] == ("real", "unknown")


def test_without_prompts_the_kind_cannot_be_named() -> None:
    model = tiny_model().eval()
    with pytest.raises(WeightsError, match="knows no prompts; train it with use_text = true"):
        model.prompt_probabilities(model.encode_image(pictures(1)))


# without the text half


def test_dropping_the_text_half_leaves_scores_and_prompts_unchanged() -> None:
    model, images = remembering(), pictures(3)
    before, vision = model(images), model.encode_image(images)
    kinds = model.prompt_probabilities(vision)
    sizes = [sum(p.numel() for p in model.parameters())]
    text = [model.language_encoder, model.contrastive, model.predictor]
    sizes += [sum(p.numel() for p in part.parameters()) for part in text]
    assert model.drop_text() is model
    torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    torch.testing.assert_close(model.prompt_probabilities(vision), kinds, rtol=0, atol=0)
    assert sum(p.numel() for p in model.parameters()) == sizes[0] - sum(sizes[1:])
    with pytest.raises(WeightsError, match="has no text half; load the full training weights"):
        model.encode_text(tokenize([["a face"]]))
    assert set(model.loss(tiny_batch())) == {"cross_entropy"}


def test_state_makes_a_round_trip() -> None:
    model = remembering()
    other = create_model("mfclip", **TINY).eval()
    images = pictures(2)
    assert (other(images) - model(images)).abs().max() > 1e-3
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(images), model(images), rtol=0, atol=0)


def test_dropout_acts_only_in_training() -> None:
    model, images = tiny_model(dropout=0.5), pictures(4)
    plain = fill(tiny_model()).eval()
    assert_close(model.eval()(images), plain(images))
    model.head.train()
    vision = model.encode_image(images)
    assert (model.classify(vision) - plain(images)).abs().max() > 1e-3


def test_a_model_without_its_own_loss_settings_has_the_papers() -> None:
    settings = tiny_model().loss_settings
    assert settings == LossSettings()
    assert (settings.contrastive, settings.kl, settings.cross_entropy) == (1, 1, 1)
    assert settings.kl_temperature == 0.5


def test_kl_teaches_from_the_start() -> None:
    """The language features come to it as the encoder gives them, not on the unit sphere."""
    torch.manual_seed(0)
    model = create_model("mfclip", image={"widths": (4,) * 5, "convs": (1,) * 5, "depth": 1})
    batch = Batch(
        torch.rand(5, 3, 224, 224), torch.tensor([0, 1, 1, 1, 1]), tuple(KINDS), torch.arange(5)
    )
    vision = model.encode_image(batch.images).detach().requires_grad_()
    kl = model.feature_loss(vision, batch)["kl"]
    assert kl.item() > 1  # 0.006 with unit vectors
    kl.backward()
    assert vision.grad.norm() > 0.01
