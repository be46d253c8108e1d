"""DD-VQA (re-implementation): words in order, answers alone count, contrasts pair by pair."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helpers import SIZES, assert_close, fill, pictures, tiny_batch
from mfclip.baselines.dd_vqa import QUESTION, DdVqa, contrast
from mfclip.config import build_config
from mfclip.detectors import build_detector
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision
from mfclip.model.tokenizer import tokenize
from oracles import parameter_count, wave

NOSE = "Does the person's nose look real/fake? The person's nose looks fake. It has no shadow."


def build(**options: Any) -> DdVqa:
    sizes = SIZES["dd_vqa"]
    tree = {**sizes, "name": "dd_vqa", "options": {**sizes["options"], **options}}
    detector = build_detector(build_config({"model": tree}).model)
    assert isinstance(detector, DdVqa)
    return detector


def test_parameters_are_those_of_encoder_words_and_decoder() -> None:
    with torch.device("meta"):
        detector = build_detector(build_config({"model": {"name": "dd_vqa"}}).model)
    assert isinstance(detector, DdVqa)
    d = 384
    vit = 196 * d + d + d + 16 * 16 * 3 * d + d  # places, class token and its place, patches
    vit += 12 * (12 * d * d + 13 * d) + 2 * d  # q, k, v, out 4; perceptron 8; biases 9; norms 4
    assert parameter_count(detector.encoder) == vit == 21_665_664
    decoder = 6 * (4 * d * d + 4 * d + 4 * d * d + 4 * d + 8 * d * d + 5 * d + 6 * d) + 2 * d
    assert parameter_count(detector) == vit + 2 * d + 2 + (49_408 + 77) * d + decoder


def test_question_and_answer_are_told_apart() -> None:
    ids, is_answer = build().read([NOSE, "a photo of a fake face"])
    question, answer = NOSE.split("? ")
    for row, asked, answered in (
        (0, question + "?", answer),
        (1, QUESTION, "a photo of a fake face"),
    ):
        words = tokenize([[asked], [answered]])[:, 0]
        first = words[0][words[0] != 0][:-1]  # without its end
        second = words[1][words[1] != 0][1:]  # without its start, with its end
        assert ids[row][ids[row] != 0].tolist() == [*first.tolist(), *second.tolist()]
        assert ids[row][is_answer[row]].tolist() == second.tolist()


@torch.no_grad()
def test_a_word_sees_those_before_it_and_the_picture() -> None:
    torch.manual_seed(0)
    detector = build().eval()
    ids, _ = detector.read([NOSE])
    tokens = detector.encode(pictures(2))
    states = detector.write(ids, tokens[:1])
    changed = ids.clone()
    changed[0, 9] = 5
    other = detector.write(changed, tokens[:1])
    assert_close(other[:, :9], states[:, :9])
    assert (other[:, 9:] - states[:, 9:]).abs().amax(2).min() > 1e-4
    assert (detector.write(ids, tokens[1:]) - states).abs().max() > 1e-4


@torch.no_grad()
def test_the_terms_are_those_of_the_words_one_by_one_and_of_the_verdict() -> None:
    torch.manual_seed(0)
    detector = build(language_weight=0.5, contrast_weight=2.0).eval()
    batch = replace(tiny_batch(4), texts=(None, NOSE, None, NOSE))
    terms = detector.loss(batch)
    expected = functional.cross_entropy(detector(batch.images), batch.target)
    assert_close(terms["cross_entropy"], expected)

    tokens = detector.encode(batch.images)
    texts = [detector.answer(batch.labels[0]), NOSE, detector.answer(batch.labels[2]), NOSE]
    assert texts[0] == "a photo of a real face, a photo of a pristine face, " + (
        "a photo taken by a camera, the source is a camera"
    )
    losses, means = [], []
    for place, text in enumerate(texts):  # each text by itself, without padding
        ids, is_answer = detector.read([text])
        states = detector.write(ids[:, :-1], tokens[place : place + 1])[0]
        told = [k for k in range(1, ids.shape[1]) if is_answer[0, k]]
        for k in told:
            odds = (detector.words.weight @ states[k - 1]).log_softmax(0)
            losses.append(-odds[ids[0, k]].item())
        means.append(torch.stack([states[k - 1] for k in told]).mean(0))
    assert terms["language"].item() == pytest.approx(0.5 * sum(losses) / len(losses), rel=1e-4)
    by_hand = pair_by_pair(torch.stack(means), batch.target, 0.07)
    assert terms["text_contrast"].item() == pytest.approx(2 * by_hand, rel=1e-3)
    by_hand = pair_by_pair(tokens[:, 0], batch.target, 0.07)
    assert terms["image_contrast"].item() == pytest.approx(2 * by_hand, rel=1e-3)


def pair_by_pair(features: Tensor, target: Tensor, temperature: float) -> float:
    rows = []
    for i in range(len(features)):
        others = [k for k in range(len(features)) if k != i]
        cosine = {
            k: functional.cosine_similarity(features[i], features[k], dim=0).item() / temperature
            for k in others
        }
        whole = math.log(sum(math.exp(value) for value in cosine.values()))
        mates = [k for k in others if target[k] == target[i]]
        if mates:
            rows.append(sum(whole - cosine[k] for k in mates) / len(mates))
    return sum(rows) / len(rows) if rows else 0.0


@pytest.mark.parametrize("target", [[0, 1, 1, 0, 1], [0, 1, 1, 1, 1], [1] * 5])
def test_the_contrast_is_that_of_its_pairs(target: list[int]) -> None:
    features, labels = wave(5, 7), torch.tensor(target)
    assert contrast(features, labels, 0.3).item() == pytest.approx(
        pair_by_pair(features, labels, 0.3)
    )
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: contrast(x, labels, 0.3), features)


def test_without_a_pair_there_is_no_contrast() -> None:
    features = wave(2, 3).requires_grad_()
    loss = contrast(features, torch.tensor([0, 1]), 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert features.grad is not None
    assert features.grad.abs().max() == 0


@torch.no_grad()
def test_timms_vit_is_a_start_of_the_encoder() -> None:
    timm = import_vision("timm.models.vision_transformer")
    theirs = fill(timm.VisionTransformer(64, 8, embed_dim=24, depth=2, num_heads=3))
    detector = build()
    words = detector.words.weight.clone()
    detector.load_state_dict(detector.from_published(theirs.state_dict()))
    own = detector.encoder.state_dict()
    assert torch.equal(own["blocks.1.mlp.fc1.weight"], theirs.blocks[1].mlp.fc1.weight)
    assert own["pos_embed"].shape == (1, 17, 24)  # resampled from 65
    assert torch.equal(detector.words.weight, words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "of at least 1"),
        ({"text_depth": 100_000}, "depths of at most 1000"),
        ({"width": 25}, "width of num_heads"),
        ({"patch_size": 7}, "a multiple of patch_size"),
        ({"temperature": 0}, "temperature above 0"),
        ({"contrast_weight": -1}, "weights of at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**change)
