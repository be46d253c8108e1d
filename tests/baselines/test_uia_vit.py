"""UIA-ViT against values from its authors' code, timm's ViT, scikit-learn, and loops.

The stored values were computed with wany0824/UIA-ViT in float64 and torch 2.13; the fillings of
parameters and pictures are those of `oracles`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.uia_vit import RunningGaussian, UiaVit, consistency_loss
from mfclip.config import build_config
from mfclip.detectors import load_detector
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision
from mfclip.train.loop import LAST, train
from mfclip.weights import read_tensors
from oracles import fill_by_shape, oracle_pictures, parameter_count

SMALL: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "width": 24,
    "depth": 4,
    "num_heads": 3,
}
CONSTANTS = tuple(torch.tensor(value, dtype=torch.float64) for value in (0.6, 0.6, 0.2))


def small() -> UiaVit:
    model = fill(UiaVit(**SMALL)).eval()
    for name, start in (("same_out", 0.6), ("same_in", 0.6), ("across", 0.2)):
        getattr(model, name).data.fill_(start)
    for gaussian in (model.real, model.fake):
        for buffer in gaussian.buffers():
            buffer.zero_()
    model.advance(0.0, 0)
    return model


def test_parameters_are_those_counted_and_the_networks_are_timms() -> None:
    timm = import_vision("timm")
    with torch.device("meta"):
        model = UiaVit()
        oracle = timm.create_model("vit_base_patch16_224", num_classes=0)
    assert parameter_count(model) == 85_803_269
    shapes = {name: tensor.shape for name, tensor in model.network.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in oracle.state_dict().items()}


@pytest.mark.slow
@torch.no_grad()
def test_logits_are_the_authors() -> None:
    model = fill_by_shape(UiaVit()).eval()
    images = oracle_pictures(2, 224).float()
    expected = {
        0.0: ((0.508426, 0.180414), (0.459273, 0.107661)),
        0.7: ((0.390651, 0.068033), (0.349478, 0.011426)),
        1.0: ((0.279142, -0.038371), (0.245522, -0.079689)),
    }
    for done, logits in expected.items():
        found = model.judge(images, torch.tensor(done)).logits
        torch.testing.assert_close(found, torch.tensor(logits), atol=1e-3, rtol=0)
    torch.testing.assert_close(model(images), found)  # evaluation judges as at the end


def by_loops(attention: Tensor, fake: bool, forged: Tensor) -> Tensor:
    p, total = len(attention), torch.zeros((), dtype=torch.float64)
    for i in range(p):
        for j in range(p):
            wanted = 0.6 if forged[i] == forged[j] else 0.2
            if i == j and not fake:
                wanted = 1.0
            total += (attention[i, j] - wanted).abs()
    return total / (p * p - p)


def test_consistency_loss_is_the_authors() -> None:
    j = torch.arange(48, dtype=torch.float64)
    real = (0.1 * j[:32] - 1).sigmoid().view(2, 4, 4)
    fake = (1 - 0.05 * j).sigmoid().view(3, 4, 4)
    forged = torch.tensor([[1, 0, 0, 2], [0, 0, 0, 0], [0.5, 0.5, 0.5, 0]]) > 0
    marked = torch.cat([torch.ones(2, 4, dtype=torch.bool), forged])  # of real pictures none is
    target = torch.tensor([0, 0, 1, 1, 1])
    both = consistency_loss(torch.cat([real, fake]), target, marked, *CONSTANTS)
    assert both.item() == pytest.approx(0.5733573, abs=1e-6)
    alone = consistency_loss(real, target[:2], marked[:2], *CONSTANTS)
    assert alone.item() == pytest.approx(0.3023187, abs=1e-6)
    none = torch.zeros(4, dtype=torch.bool)
    loops = sum(by_loops(one, fake=False, forged=none) for one in real) / 2
    loops += (
        sum(by_loops(one, fake=True, forged=m) for one, m in zip(fake, forged, strict=True)) / 3
    )
    assert both.item() == pytest.approx(float(loops), abs=1e-9)


def test_distances_are_the_authors_and_the_fit_is_scikit_learns() -> None:
    rows = (0.7 * torch.arange(200, dtype=torch.float64)).sin().view(40, 5)
    gaussian = RunningGaussian(5).double()
    for part in rows.split(9):  # in batches, with rows between them that do not count
        weight = torch.cat([torch.ones(len(part)), torch.zeros(3)]).double()
        gaussian.add(torch.cat([part, torch.full((3, 5), 7.0).double()]), weight)
    gaussian.fit()
    expected = torch.tensor([1.4070505, 1.4066205, 1.3853186], dtype=torch.float64)
    torch.testing.assert_close(gaussian.distance(rows[:3]), expected, atol=1e-5, rtol=0)
    oracle = LedoitWolf().fit(rows.numpy())
    assert_close(gaussian.precision, torch.from_numpy(oracle.precision_))
    assert_close(gaussian.mean, rows.mean(0))
    assert gaussian.count == 0  # begins anew
    wide = torch.randn(6, 30, dtype=torch.float64)  # fewer samples than values
    gaussian = RunningGaussian(30).double()
    gaussian.add(wide, torch.ones(6).double())
    gaussian.fit()
    assert_close(gaussian.precision, torch.from_numpy(LedoitWolf().fit(wide.numpy()).precision_))


def test_a_gaussian_without_samples_stays_as_it_is() -> None:
    gaussian = RunningGaussian(3)
    gaussian.precision.fill_(2.0)
    gaussian.fit()
    assert (gaussian.precision == 2).all()


@torch.no_grad()
def test_tokens_are_timms_and_attention_is_the_mean_over_heads_and_blocks() -> None:
    model, images = small(), pictures(2)
    tokens = model.network.forward_features(images * 2 - 1)
    at_start = model.judge(images, torch.tensor(0.0))
    assert_close(
        at_start.logits, model.head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))
    )
    network, maps = model.network, []
    x = network._pos_embed(network.patch_embed(images * 2 - 1))
    for number, block in enumerate(network.blocks):
        q, k, _ = block.attn.qkv(block.norm1(x)).view(2, 17, 3, 3, 8).permute(2, 0, 3, 1, 4)
        maps.append(q @ k.transpose(-2, -1) / 8**0.5)
        x = block(x)
        if number == 1:
            assert_close(at_start.patches, model.middle_norm(x[:, 1:]))
    mean = torch.cat(maps[2:], dim=1).mean(1)
    assert_close(at_start.attention, mean)
    weight = 0.0266 + (1 - 0.0266) * mean[:, 0, 1:].sigmoid()
    summed = (weight[:, :, None] * tokens[:, 1:]).mean(1)
    expected = model.head(torch.cat([tokens[:, 0], summed], dim=1))
    torch.testing.assert_close(model(images), expected, atol=1e-3, rtol=0)


def test_terms_begin_with_the_second_epoch() -> None:
    model, batch = small().train(), tiny_batch(6)
    first = model.loss(batch)
    assert first["consistency"] == first["constants"] == 0
    sum(first.values()).backward()
    assert model.across.grad == 0  # a gradient there is, from the first step on
    model.advance(0.5, 1)
    second = model.loss(batch)
    assert second["consistency"] > 0
    assert_close(second["constants"].detach(), torch.tensor(0.5 * 0.2 + 0.05 / 0.6 + 0.05 / 0.6))
    out = model.judge(batch.images, torch.tensor(0.5))
    flat = out.patches.detach()
    forged = model.real.distance(flat) > model.fake.distance(flat)
    assert forged.any()
    assert not forged.all()
    attention = out.attention[:, 1:, 1:].sigmoid()
    constants = (model.same_out, model.same_in, model.across)
    expected = consistency_loss(attention, batch.target, forged, *constants)
    assert_close(second["consistency"], 0.06 * expected)


def test_gaussians_see_the_first_faces_of_a_batch_and_are_fitted_every_half_epoch() -> None:
    model, batch = small().train(), tiny_batch(12)
    with torch.no_grad():
        patches = model.judge(batch.images, torch.tensor(0.0)).patches
        model.loss(batch)
    inner = torch.tensor([5, 6, 9, 10])  # of 4 x 4: rows and columns 1 and 2
    real = patches[batch.target == 0][:4].flatten(0, 1)
    fake = patches[batch.target == 1][:4][:, inner].flatten(0, 1)
    for gaussian, rows in ((model.real, real), (model.fake, fake)):
        assert gaussian.count == len(rows)
        assert_close(gaussian.second.float(), rows.T @ rows)
    counts = []
    for step in range(12):  # 3 epochs of 4 steps
        model.advance(step / 12, step // 4)
        counts.append((int(model.fits), float(model.real.count)))
        with torch.no_grad():
            model.loss(batch)
    a = len(real)
    assert counts == [
        *[(0, (1 + n) * a) for n in range(4)],
        *[(1, 0), (1, a), (2, 0), (2, a), (3, 0), (3, a), (4, 0), (4, a)],
    ]


def test_training_that_starts_from_weights_begins_the_schedule_anew() -> None:
    model = small().train()
    for step in range(8):
        model.advance(step / 8, step // 4)
        with torch.no_grad():
            model.loss(tiny_batch(6))
    again = small().train()
    again.load_state_dict(model.state_dict())
    again.advance(0.0, 0)
    assert again.loss(tiny_batch(6))["constants"] == 0
    again.advance(0.25, 1)
    assert again.fits == 1


@pytest.mark.slow
def test_a_run_resumes_to_the_bit(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    options = {"patch_size": 16, "width": 24, "depth": 2, "num_heads": 3}
    tiny_run["model"] = {"name": "uia_vit", "image_size": 64, "options": options}
    tiny_run["train"] |= {"epochs": 3, "ema": 0.9, "select": "loss"}
    config = build_config(tiny_run)
    train(config, tmp_path / "whole", device="cpu")
    for stop in (3, 5, 11):  # before, just behind and long after the first fit
        train(config, tmp_path / "parts", device="cpu", resume=stop > 3, max_steps=stop)
    train(config, tmp_path / "parts", device="cpu", resume=True)
    whole, parts = (read_tensors(tmp_path / run / LAST)[0] for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert not [name for name in whole if not torch.equal(whole[name], parts[name])]
    detector, _ = load_detector(tmp_path / "whole")
    assert isinstance(detector, UiaVit)
    assert detector.fits == 4
    assert detector.real.precision.abs().max() > 0  # copied into the averaged weights


@torch.no_grad()
def test_published_weights_are_renamed() -> None:
    model = small()
    own = {k: v for k, v in model.state_dict().items() if k.startswith("network.")}
    published = {f"module.{k.removeprefix('network.')}": v for k, v in own.items()}
    for part in ("weight", "bias"):
        published[f"module.norm_middle.{part}"] = model.state_dict()[f"middle_norm.{part}"] + 1
        published[f"module.head.{part}"] = model.state_dict()[f"head.{part}"] + 2
    other = UiaVit(**SMALL)
    other.load_state_dict(other.from_published(published))
    for name, value in other.network.state_dict().items():
        assert torch.equal(value, own[f"network.{name}"])
    assert_close(other.middle_norm.weight, model.middle_norm.weight + 1)
    assert_close(other.head.bias, model.head.bias + 2)


@torch.no_grad()
def test_timms_weights_are_a_start_at_any_size() -> None:
    timm = small().network.state_dict()
    timm["head.weight"] = torch.zeros(1000, 24)
    larger = UiaVit(**{**SMALL, "image_size": 64})
    head = larger.head.weight.clone()
    larger.load_state_dict(larger.from_published(timm))
    assert larger.network.pos_embed.shape == (1, 65, 24)
    assert torch.equal(larger.head.weight, head)
    assert torch.equal(larger.network.blocks[2].mlp.fc1.weight, timm["blocks.2.mlp.fc1.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 25}, "width to be a multiple of num_heads .*width=25, num_heads=3"),
        ({"image_size": 30}, "image_size of patch_size, .*image_size=30, patch_size=8"),
        ({"depth": 1}, "a depth of at least 2, but got 8, 24, 3, 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UiaVit(**{**SMALL, **change})
