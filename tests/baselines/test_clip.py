"""CLIP against open_clip: towers, verdict, loss; what is trained; published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from helpers import KINDS, assert_close, tiny_batch
from mfclip.baselines.clip import CLIP, build_towers
from mfclip.config import ModelSettings, build_config
from mfclip.detectors import build_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.layers.vision_packages import import_vision
from mfclip.model.ftg import prompts

OPTIONS: dict[str, Any] = {
    "patch_size": 16,
    "width": 64,
    "depth": 1,
    "text_width": 64,
    "text_depth": 1,
}
SMALL: dict[str, Any] = {"name": "clip", "image_size": 32, "embed_dim": 16, "options": OPTIONS}


def settings_of(variant: str = "prompt", **overrides: Any) -> ModelSettings:
    tree = {**SMALL, **overrides, "options": {**OPTIONS, "variant": variant}}
    return build_config({"model": tree}).model


def make(**overrides: Any) -> CLIP:
    torch.manual_seed(0)
    detector = build_detector(settings_of(**overrides)).eval()
    assert isinstance(detector, CLIP)
    with torch.no_grad():
        detector.towers.logit_scale.fill_(2.0)
        detector.towers.token_embedding.weight *= 50  # so that sentences lie apart
    return detector


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file as open_clip's authors publish them."""
    path = tmp_path / "open_clip_model.safetensors"
    safetensors.torch.save_file(make().towers.state_dict(), path)
    return path


def tokens(texts: list[str]) -> torch.Tensor:
    ids: torch.Tensor = import_vision("open_clip.tokenizer").tokenize(texts)
    return ids


def test_parameters_are_those_of_vit_b_32() -> None:
    factory = import_vision("open_clip")
    with torch.device("meta"):
        towers = build_towers()
    config = factory.get_model_config("ViT-B-32")
    with torch.device("meta"):
        oracle = factory.CLIP(**config)
    assert sum(p.numel() for p in towers.parameters()) == 151_277_313
    shapes = {name: tensor.shape for name, tensor in towers.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in oracle.state_dict().items()}


def test_verdict_is_open_clips_on_the_two_sentences() -> None:
    model, batch = make(), tiny_batch(3)
    texts = tokens(["a photo of a real face", "a photo of a fake face"])
    mean = torch.tensor(import_vision("open_clip").OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(import_vision("open_clip").OPENAI_DATASET_STD).view(3, 1, 1)
    logits, _ = model.towers.get_logits((batch.images - mean) / std, texts)
    assert_close(model(batch.images), logits, factor=10)
    assert (logits[:, 1] - logits[:, 0]).abs().min() > 0.01
    assert (logits[0] - logits[1]).abs().max() > 0.01


@pytest.mark.parametrize("levels", [1, 3, 4])
def test_prompts_are_the_levels_joined_by_commas(levels: int) -> None:
    model = make(text={"max_levels": levels})
    texts = tokens([", ".join(prompts(kind, levels)) for kind in KINDS])
    assert torch.equal(model.tokenize(KINDS), texts)
    whole = model.towers.encode_text(texts, normalize=True)
    assert_close(model.encode_text(texts), whole)  # though shorter by the padding


def test_loss_without_spa_is_open_clips() -> None:
    model, batch = make(spa={"mode": "none", "targets": "one-hot"}), tiny_batch(6)
    images = model.encode_image(batch.images)
    texts = model.encode_text(model.tokenize(batch.labels))
    oracle = import_vision("open_clip").ClipLoss()(images, texts, model.logit_scale)
    terms = model.loss(batch)
    assert_close(terms["contrastive"], oracle)
    verdict = torch.nn.functional.cross_entropy(model(batch.images), batch.target)
    assert_close(terms["cross_entropy"], verdict)


def test_spa_weighs_the_pairs_of_the_batch() -> None:
    batch = tiny_batch(6)
    plain, weighed = make(spa={"mode": "none"}), make(spa={"mode": "batch", "batch_size": 6})
    assert weighed.contrastive is not None
    attention = weighed.contrastive.attention
    with torch.no_grad():
        attention.weight.fill_(50)  # sigmoid 1: plain CLIP
    assert_close(weighed.loss(batch)["contrastive"], plain.loss(batch)["contrastive"])
    with torch.no_grad():
        attention.weight.fill_(0)  # sigmoid 1/2: half the scale
        plain.towers.logit_scale -= torch.tensor(2.0).log()
    assert_close(weighed.loss(batch)["contrastive"], plain.loss(batch)["contrastive"])


def test_equal_prompts_share_their_target() -> None:
    model = make(spa={"mode": "none", "targets": "equal"})
    batch = tiny_batch(6)  # the sixth kind is the first again
    images = model.encode_image(batch.images)
    logits = model.logit_scale * images @ model.encode_text(model.tokenize(batch.labels)).T
    same = torch.tensor([[a == b for b in batch.labels] for a in batch.labels]).float()
    target = same / same.sum(1, keepdim=True)
    rows = -(target * logits.log_softmax(1)).sum(1).mean()
    columns = -(target * logits.log_softmax(0)).sum(0).mean()
    assert_close(model.loss(batch)["contrastive"], (rows + columns) / 2)


def test_a_linear_probe_trains_its_layer_alone(published: Path) -> None:
    probe = build_detector(settings_of("linear", pretrained=str(published))).eval()
    trained = {name for name, p in probe.named_parameters() if p.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    batch = tiny_batch(3)
    features = probe.encode_image(batch.images)
    assert_close(features, make().encode_image(batch.images))
    assert_close(probe(batch.images), features @ probe.head.weight.T + probe.head.bias)
    assert set(probe.loss(batch)) == {"cross_entropy"}


def test_zero_shot_is_the_published_verdict_untrained(published: Path) -> None:
    zero_shot = build_detector(settings_of("zero-shot", pretrained=str(published))).eval()
    assert not any(p.requires_grad for p in zero_shot.parameters())
    batch = tiny_batch(3)
    assert_close(zero_shot(batch.images), make()(batch.images))


@pytest.mark.parametrize("variant", ["linear", "zero-shot"])
def test_frozen_towers_need_weights(variant: str) -> None:
    with pytest.raises(ConfigError, match=r"so it needs weights; set model\.pretrained"):
        build_detector(settings_of(variant))


def test_published_weights_of_another_size_are_refused(published: Path) -> None:
    wider = settings_of("zero-shot", pretrained=str(published), embed_dim=24)
    with pytest.raises(WeightsError, match=r"text_projection: expected \(64, 24\), got \(64, 16\)"):
        build_detector(wider)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"of 64, but got 224 and 32, 100 and 512"):
        build_towers(width=100)
