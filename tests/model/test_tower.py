"""MFCLIP around towers of timm and open_clip, against these packages and against GenD's recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.card import Card
from mfclip.config import ImageEncoderSettings, LossSettings, ModelSettings, build_config
from mfclip.detectors import build_detector, load_detector, save_detector
from mfclip.engines.graph import VisionGraph
from mfclip.errors import ConfigError, WeightsError
from mfclip.evaluate.release import _without_place
from mfclip.labels import Labels
from mfclip.layers.lora import LoraLinear
from mfclip.layers.sphere import alignment_loss, uniformity_loss
from mfclip.layers.vision_packages import import_vision
from mfclip.model.build import build_mfclip
from mfclip.model.mfclip import MFCLIP
from mfclip.model.tower import TowerEncoder
from mfclip.train.optimiser import choose_learning
from mfclip.weights import read_tensors, read_weights, write_weights
from oracles import parameter_count

SIZE, WIDTH = 32, 64
TOWER = "timm:test_vit"


def _settings(**changes: Any) -> ModelSettings:
    model = {
        "image_size": SIZE,
        "embed_dim": WIDTH,
        "num_heads": 4,
        "head": "linear",
        "image": {"trunk": TOWER, "trunk_weights": "", **changes.pop("image", {})},
        "noise": {"patch_size": 16, "widths": (8,), "convs": (1,), "depth": 1, "gate": True},
        "text": {"depth": 1},
        **changes,
    }
    return build_config({"model": model}).model


def _batch(count: int = 8) -> Batch:
    target = torch.arange(count) % 2
    labels = [Labels(True, "face_swap") if each else Labels(False) for each in target]
    return Batch(torch.rand(count, 3, SIZE, SIZE), target, tuple(labels), torch.arange(count))


@pytest.mark.parametrize(
    ("name", "parameters", "norms"),
    [
        # counted with timm by the authors of our specification
        ("vit_large_patch14_clip_quickgelu_224.openai", 303.18e6, 102_400),
        ("vit_pe_core_large_patch14_336.fb", 315.77e6, 104_448),  # 316.10 M at 336 pixels
        ("vit_large_patch16_dinov3.lvd1689m", 303.08e6, 100_352),
    ],
)
def test_sizes_of_large_towers(name: str, parameters: float, norms: int) -> None:
    lora = {"rank": 32, "targets": ("*.attn.qkv",)}
    with torch.device("meta"):
        plain = TowerEncoder(f"timm:{name}", 224, ImageEncoderSettings())
        wide = TowerEncoder(f"timm:{name}", 224, ImageEncoderSettings(lora=lora))
    assert plain.width == 1024
    assert parameter_count(plain) == pytest.approx(parameters, rel=1e-4)
    layer_norms = [each for each in plain.modules() if isinstance(each, nn.LayerNorm)]
    assert sum(map(parameter_count, layer_norms)) == norms
    assert parameter_count(wide) - parameter_count(plain) == 32 * (1024 + 3072) * 24


def test_the_start_is_plain_gend_to_the_bit() -> None:
    model = build_mfclip(_settings()).eval()
    without = build_mfclip(_settings(use_noise=False, use_text=False)).eval()
    without.load_state_dict(
        {name: each for name, each in model.state_dict().items() if name in without.state_dict()}
    )
    assert parameter_count(without.head) == 2 * WIDTH + 2
    timm = import_vision("timm")
    tower = timm.create_model("test_vit", num_classes=0, img_size=SIZE).eval()
    encoder = model.vision_encoder.image_encoder
    assert isinstance(encoder, TowerEncoder)
    tower.load_state_dict(encoder.tower.state_dict())
    images = torch.rand(4, 3, SIZE, SIZE)
    mean, std = (torch.tensor(tower.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        features = functional.normalize(tower((images - mean) / std), dim=1)
        gend = functional.linear(features, model.head[2].weight, model.head[2].bias)
        assert torch.equal(model(images), without(images))
        assert torch.allclose(model(images), gend, atol=1e-5)


def test_the_gate_opens_by_learning() -> None:
    model = build_mfclip(_settings())
    torch.stack(list(model.loss(_batch()).values())).sum().backward()
    gate = model.vision_encoder.get_parameter("noise_encoder.gate")
    assert gate.grad is not None
    assert gate.grad != 0
    inner = model.vision_encoder.get_submodule("noise_encoder.encoder")
    assert all(not each.grad.any() for each in inner.parameters() if each.grad is not None)
    with torch.no_grad():
        gate.add_(0.1)
    model.zero_grad()
    torch.stack(list(model.loss(_batch()).values())).sum().backward()
    assert any(each.grad.any() for each in inner.parameters() if each.grad is not None)


def test_pair_losses_are_terms_with_their_weights() -> None:
    losses = LossSettings(alignment=0.1, uniformity=0.5)
    model = build_mfclip(_settings(use_text=False), losses)
    batch = _batch()
    terms = model.loss(batch)
    features = model.encode_image(batch.images)
    assert torch.allclose(terms["alignment"], 0.1 * alignment_loss(features, batch.target))
    assert torch.allclose(terms["uniformity"], 0.5 * uniformity_loss(features))
    assert model.compares_samples


def test_layer_norms_and_head_alone_learn() -> None:
    model = build_mfclip(_settings(use_text=False))
    config = build_config({"train": {"learn": ["*norm*", "head.*", "*.gate"]}})
    choose_learning(model, config.train)
    torch.stack(list(model.loss(_batch()).values())).sum().backward()
    learned = {name for name, each in model.named_parameters() if each.grad is not None}
    norms = {
        f"{name}.{kind}"
        for name, each in model.vision_encoder.named_modules(prefix="vision_encoder")
        if isinstance(each, nn.LayerNorm) and "noise" not in name
        for kind in ("weight", "bias")
    }
    assert learned >= norms | {"head.2.weight", "head.2.bias"}
    assert not [name for name in learned if "attn" in name or "mlp" in name]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A file with the weights of the tower, as its package would save it."""
    tower = import_vision("timm").create_model("test_vit", num_classes=0, img_size=SIZE)
    save_file(tower.state_dict(), tmp_path / "tower.safetensors")
    return tmp_path / "tower.safetensors"


def _trained(base: Path) -> tuple[MFCLIP, ModelSettings]:
    settings = _settings(image={"trunk_weights": str(base)}, use_text=False)
    model = build_detector(settings)
    assert isinstance(model, MFCLIP)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.startswith("head"):
                parameter.add_(0.01)
    return model.eval(), settings


def test_a_file_holds_what_was_trained_and_comes_back_to_the_bit(base: Path) -> None:
    model, settings = _trained(base)
    path = base.with_name("trained.safetensors")
    save_detector(model, settings, path, card=Card())
    stored, _ = read_tensors(path)
    left_out = set(model.state_dict()) - set(stored)
    assert left_out == {
        name for name in model.state_dict() if ".tower." in name and "norm" not in name
    }
    again, card = load_detector(path)
    assert card.base is not None
    assert card.base.weights == "tower.safetensors"
    for name, each in model.state_dict().items():
        assert torch.equal(each, again.state_dict()[name]), name


def test_a_moved_file_finds_the_tower_beside_it_or_says_what_to_do(base: Path) -> None:
    model, settings = _trained(base)
    folder = base.parent / "elsewhere"
    folder.mkdir()
    save_detector(model, settings, folder / "trained.safetensors", card=Card())
    base.rename(folder / base.name)
    load_detector(folder / "trained.safetensors")
    (folder / base.name).unlink()
    with pytest.raises(WeightsError, match=r"put its own weights, tower\.safetensors, beside them"):
        load_detector(folder / "trained.safetensors")


def test_weights_that_moved_can_be_saved_again(base: Path) -> None:
    model, settings = _trained(base)
    folder = base.parent / "elsewhere"
    folder.mkdir()
    save_detector(model, settings, folder / "trained.safetensors", card=Card())
    base.rename(folder / base.name)
    again, card = load_detector(folder / "trained.safetensors")
    named = _without_place(settings)  # as a release is written: no folder of this machine
    assert named.image.trunk_weights == "tower.safetensors"
    save_detector(again, named, folder / "released.safetensors", card=card)
    assert str(base.parent) not in (folder / "released.safetensors").read_bytes().decode("latin-1")
    assert {*read_tensors(folder / "released.safetensors")[0]} == {
        *read_tensors(folder / "trained.safetensors")[0]
    }
    released, _ = load_detector(folder / "released.safetensors")
    for name, each in model.state_dict().items():
        assert torch.equal(each, released.state_dict()[name]), name


def test_tuning_all_of_a_pretrained_tower_is_warned_of(base: Path) -> None:
    model, _ = _trained(base)
    encoder = model.vision_encoder.image_encoder
    assert isinstance(encoder, TowerEncoder)
    assert "every weight of timm:test_vit learns" in str(encoder.training_warning)
    next(encoder.tower.parameters()).requires_grad = False
    assert encoder.training_warning is None
    random = TowerEncoder(TOWER, SIZE, ImageEncoderSettings())
    assert random.training_warning is None


def test_a_tower_that_nobody_knows_is_told_in_one_line(base: Path) -> None:
    model, settings = _trained(base)
    path = base.with_name("trained.safetensors")
    save_detector(model, settings, path, card=Card())
    file = read_weights(path)
    file.settings["image"]["trunk"] = "timm:vit_nobody"
    write_weights(file, path)
    with pytest.raises(WeightsError, match=r"nothing can be built .* no model 'vit_nobody'"):
        load_detector(path)


def test_another_tower_is_refused(base: Path) -> None:
    model, settings = _trained(base)
    path = base.with_name("trained.safetensors")
    save_detector(model, settings, path, card=Card())
    tensors, _ = read_tensors(base)
    tensors["norm.bias"] = tensors["norm.bias"] + 1
    save_file(tensors, base)
    with pytest.raises(WeightsError, match="trained on other weights of timm:test_vit"):
        load_detector(path)
    save_file({"a": torch.zeros(1)}, base)
    with pytest.raises(WeightsError, match=r"not the weights of timm:test_vit: \d+ of its"):
        load_detector(path)


def test_engines_run_merged_lora() -> None:
    lora = {"rank": 4, "alpha": 8.0, "targets": ("*.attn.qkv",)}
    model = build_mfclip(_settings(image={"lora": lora}, use_text=False)).eval()
    for each in model.modules():
        if isinstance(each, LoraLinear):
            nn.init.normal_(each.lora_b, std=0.1)
    graph = VisionGraph(model)
    assert not any(isinstance(each, LoraLinear) for each in graph.modules())
    images = torch.rand(3, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(graph(images)[1], model(images), atol=1e-5)


def test_open_clip_gives_the_features_before_its_projection() -> None:
    open_clip = import_vision("open_clip")
    clip = open_clip.create_model("ViT-S-32", force_image_size=SIZE).eval()
    encoder = TowerEncoder("open_clip:ViT-S-32", SIZE, ImageEncoderSettings()).eval()
    state = {name: each for name, each in clip.visual.state_dict().items() if name != "proj"}
    encoder.tower.load_state_dict(state)
    images = torch.rand(2, 3, SIZE, SIZE)
    mean, std = (
        torch.tensor(each).view(3, 1, 1) for each in (clip.visual.image_mean, clip.visual.image_std)
    )
    with torch.inference_mode():
        expected = clip.encode_image((images - mean) / std)
        assert torch.allclose(encoder(images * 2 - 1) @ clip.visual.proj, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {"trunk": "timm:vit_nobody"}}, "timm has no model 'vit_nobody'"),
        ({"image": {"trunk": "open_clip:RN50"}}, "no vision transformer"),
        ({"image": {"trunk": "hub:vit"}}, "timm:NAME or open_clip:NAME, but got 'hub:vit'"),
        ({"embed_dim": 32}, "expected embed_dim = 64, the width of timm:test_vit, but got 32"),
        ({"image": {"trunk": "cvit", "lora": {"rank": 4}}}, "image.lora is for towers"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_mfclip(_settings(**changes))


def test_weights_that_a_tower_does_not_have() -> None:
    settings = _settings(image={"trunk_weights": "imagenet"})
    with pytest.raises(ConfigError, match='"hub" to fetch them, or "" to start from random'):
        build_detector(settings)
