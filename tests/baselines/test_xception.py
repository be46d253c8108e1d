"""Xception against timm's own."""

from __future__ import annotations

import torch

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.xception import Xception
from mfclip.config import LossSettings
from mfclip.layers.normalisation import JointBatchNorm2d
from mfclip.layers.vision_packages import import_vision


def test_parameters_are_those_counted() -> None:
    with torch.device("meta"):
        model = Xception()
    assert sum(p.numel() for p in model.parameters()) == 20_811_050
    assert sum(isinstance(part, JointBatchNorm2d) for part in model.modules()) == 40


def test_scores_and_loss_are_timms() -> None:
    model = fill(Xception(loss_settings=LossSettings(cross_entropy=0.5, label_smoothing=0.1)))
    oracle = import_vision("timm").create_model("legacy_xception", num_classes=2)
    oracle.load_state_dict(model.network.state_dict())
    batch = tiny_batch(2, 64)
    logits = oracle.eval()((batch.images - 0.5) / 0.5)
    assert_close(model.eval()(batch.images), logits)
    smooth = torch.nn.functional.one_hot(batch.target, 2) * 0.9 + 0.05
    by_hand = -(smooth * logits.log_softmax(1)).sum(1).mean()
    assert_close(model.loss(batch)["cross_entropy"], 0.5 * by_hand)


def test_published_weights_become_the_start_and_the_head_stays() -> None:
    oracle = fill(import_vision("timm").create_model("legacy_xception", num_classes=10)).eval()
    model = Xception().eval()
    head = model.network.fc.weight.clone()
    model.load_state_dict(model.from_published(oracle.state_dict()))
    images = pictures(1, 64)
    ours = model.network.forward_features(images)
    torch.testing.assert_close(ours, oracle.forward_features(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.network.fc.weight, head, rtol=0, atol=0)
