"""DIRE's classifier against timm's ResNet-50."""

from __future__ import annotations

import torch

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.dire import Dire
from mfclip.layers.vision_packages import import_vision
from oracles import parameter_count


def test_parameters_are_those_counted() -> None:
    with torch.device("meta"):
        assert parameter_count(Dire()) == 23_510_081


@torch.no_grad()
def test_scores_and_loss_are_a_resnets_on_normalised_maps() -> None:
    oracle = fill(import_vision("timm").create_model("resnet50", num_classes=1)).eval()
    model, batch = Dire().eval(), tiny_batch(4)
    published = {f"module.{name}": value for name, value in oracle.state_dict().items()}
    model.load_state_dict(model.from_published(published))
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    z = oracle((batch.images - mean) / deviation)[:, 0]
    assert_close(model(batch.images), torch.stack([torch.zeros(4), z], 1))
    by_hand = torch.where(batch.target == 1, (1 + (-z).exp()).log(), (1 + z.exp()).log())
    assert_close(model.loss(batch)["cross_entropy"], by_hand.mean())


@torch.no_grad()
def test_imagenets_weights_are_a_start_and_the_head_stays() -> None:
    oracle = fill(import_vision("timm").create_model("resnet50", num_classes=9)).eval()
    model = Dire().eval()
    head = model.network.fc.weight.clone()
    assert 0.018 < head.std() < 0.022
    model.load_state_dict(model.from_published(oracle.state_dict()))
    assert torch.equal(model.network.fc.weight, head)
    images = pictures(1)
    ours = model.network.forward_features(images)
    torch.testing.assert_close(ours, oracle.forward_features(images), rtol=1e-5, atol=1e-5)
