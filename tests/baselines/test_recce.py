"""RECCE against values from its authors' code, and against itself with loops.

The stored values were computed with VISION-SJTU/RECCE in float64 and torch 2.13; the fillings of
parameters and pictures are those of `oracles`.
"""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.recce import GraphReasoning, Recce, metric_loss, reconstruction_loss
from mfclip.config import LossSettings
from mfclip.layers.normalisation import JointBatchNorm2d
from mfclip.layers.vision_packages import import_vision
from oracles import fill_by_shape, oracle_pictures, parameter_count, wave

WIDTH = 0.03


def graph() -> tuple[GraphReasoning, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    part = fill_by_shape(GraphReasoning(8, 4, finer=(4, 2), drop_rate=0.2)).eval().double()
    return part, (wave(2, 8, 3, 3), wave(2, 4, 6, 6), wave(2, 2, 12, 12))


def test_parameters_are_those_counted() -> None:
    with torch.device("meta"):
        model = Recce()
    assert parameter_count(model) == 23_781_509
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert all(isinstance(norm, JointBatchNorm2d) for norm in norms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "logits"), [(256, (1.416444, 1.506305)), (299, (1.483546, 1.578905))]
)
@torch.no_grad()
def test_logits_are_the_authors(size: int, logits: tuple[float, ...]) -> None:
    model = fill_by_shape(Recce()).eval()
    found = model(oracle_pictures(2, size).float())
    torch.testing.assert_close(found[:, 1], torch.tensor(logits), atol=1e-3, rtol=0)
    assert found[:, 0].tolist() == [0, 0]


def test_graph_reasoning_is_the_authors() -> None:
    part, (coarse, fine, finest) = graph()
    out = part(coarse, (fine, finest))
    assert out.sum().item() == pytest.approx(-20.6847507, abs=1e-3)
    assert out.abs().mean().item() == pytest.approx(0.2998032, abs=1e-5)
    begins = torch.tensor([-0.458113, 0.515852, -0.120295], dtype=torch.float64)
    torch.testing.assert_close(out[0, :3, 0, 0], begins, atol=1e-5, rtol=0)


def test_graph_reasoning_is_a_walk_over_the_places() -> None:
    part, (coarse, *finer) = graph()
    centre = part.centre(coarse)
    parts = []
    for ask, cells in zip(part.finer, finer, strict=True):
        r, out = ask.ratio, torch.zeros_like(centre)
        gate = 1 - torch.sigmoid(ask.gate(coarse))
        for image in range(2):
            for y in range(3):
                for x in range(3):
                    own = centre[image, :, y, x]
                    inside = cells[image, :, y * r : (y + 1) * r, x * r : (x + 1) * r]
                    embedded = [ask.embed(cell) for cell in inside.flatten(1).T]
                    scores = [ask.weigh(torch.cat([own, cell])).relu() for cell in embedded]
                    weights = torch.cat(scores).softmax(0)
                    total = sum(w * cell for w, cell in zip(weights, embedded, strict=True))
                    out[image, :, y, x] = total * gate[image, :, y, x]
        parts.append(out)
    expected = part.project(torch.cat([*parts, centre], dim=1).sigmoid())
    assert_close(part(coarse, (finer[0], finer[1])), expected)


@pytest.mark.parametrize(
    ("targets", "value"),
    [("0011", 1.1375358), ("0111", 1.3249507), ("1111", 1.0), ("0000", 0.5585990)],
)
def test_metric_loss_is_the_authors(targets: str, value: float) -> None:
    target = torch.tensor([int(letter) for letter in targets])
    loss = metric_loss([wave(4, 6)], target)
    assert loss.item() == pytest.approx(value, abs=1e-5)
    assert metric_loss([wave(4, 6)] * 3, target).item() == pytest.approx(3 * value, abs=1e-5)


def test_only_real_faces_are_to_be_redrawn() -> None:
    images = oracle_pictures(4, 8)
    loss = reconstruction_loss(images, images / 2, torch.tensor([0, 1, 0, 1]))
    assert loss.item() == pytest.approx(0.4273624, abs=1e-5)
    assert reconstruction_loss(images, images / 2, torch.ones(4, dtype=torch.long)) == 0


@torch.no_grad()
def test_terms_are_weighted_and_the_cross_entropy_is_flooded() -> None:
    model = fill(Recce(width=WIDTH, loss_settings=LossSettings(cross_entropy=0.5))).eval()
    batch = tiny_batch(4)
    out = model.judge(batch.images)
    terms = model.loss(batch)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(out.logit, batch.target.float())
    assert_close(terms["cross_entropy"], 0.5 * ((plain - 0.04).abs() + 0.04))
    error = (batch.images * 2 - 1 - out.reconstruction).abs()[batch.target == 0].mean()
    assert_close(terms["reconstruction"], 0.1 * error)
    assert_close(terms["metric"], 0.1 * metric_loss(out.maps, batch.target))
    # below the flood a better fit costs
    model.fc.weight.zero_()
    model.fc.bias.fill_(9.0)
    fakes = tiny_batch(8)
    chosen = fakes.target == 1
    only = type(fakes)(
        fakes.images[chosen],
        fakes.target[chosen],
        tuple(known for known in fakes.labels if known.is_fake),
        fakes.index[chosen],
    )
    sure = torch.nn.functional.softplus(torch.tensor(-9.0))
    assert_close(model.loss(only)["cross_entropy"], 0.5 * (0.08 - sure))


def test_noise_goes_to_half_of_the_pictures_in_training_only() -> None:
    model, seen = Recce(width=WIDTH), []
    model.encoder.conv1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = 0.25 + pictures(16) / 2
    with torch.no_grad():
        model.judge(images)
        model.eval().judge(images)
    change = (seen[0] - (images * 2 - 1)).abs().amax((1, 2, 3))
    assert 0 < (change > 0).sum() < 16
    assert change.max() < 1e-5
    assert torch.equal(seen[1], images * 2 - 1)


@torch.no_grad()
def test_published_weights_are_renamed() -> None:
    model = fill(Recce(width=WIDTH)).eval()
    own = model.state_dict()
    back = {  # as the authors' classes call their parts
        "reasoning.centre": "reasoning.va_embedding",
        "reasoning.finer.0.gate": "reasoning.va_gated_b.0",
        "reasoning.finer.1.gate": "reasoning.va_gated_c.0",
        "reasoning.finer.0.embed": "reasoning.vb_embedding",
        "reasoning.finer.1.embed": "reasoning.vc_embedding",
        "reasoning.finer.0.weigh": "reasoning.reweight_ab.0",
        "reasoning.finer.1.weigh": "reasoning.reweight_ac.0",
        "reasoning.project": "reasoning.reproject",
        "attention.gate": "attention.gated",
        "attention.values": "attention.h",
    }
    published = {}
    for name, value in own.items():
        for here, there in back.items():
            if name.startswith(here):
                name = there + name.removeprefix(here)  # noqa: PLW2901
                break
        published[f"module.{name}"] = value
    published["module.encoder.fc.weight"] = torch.zeros(1000, 2048)
    published["module.encoder.fc.bias"] = torch.zeros(1000)
    found = model.from_published(published)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


@torch.no_grad()
def test_xceptions_weights_are_a_start_for_the_encoder() -> None:
    model, other = Recce(), fill(import_vision("timm.models.xception").Xception())
    before = model.decoder2.state_dict()["rep.1.conv1.weight"].clone()
    model.load_state_dict(model.from_published(other.state_dict()))
    own = model.encoder.state_dict()
    body = {k: v for k, v in other.state_dict().items() if not k.startswith("fc.")}
    torch.testing.assert_close(own, body, rtol=0, atol=0)
    assert torch.equal(model.decoder2.state_dict()["rep.1.conv1.weight"], before)
