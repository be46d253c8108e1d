"""Every engine says what PyTorch says, from weights in memory or on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers import KINDS, SIZES, SLOW, TINY, fill, pictures, tiny_model
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.detectors import DETECTORS, Row, build_detector, save_detector
from mfclip.engines import Engine, load_engine
from mfclip.engines import load as load_module
from mfclip.engines.load import build_engine, choose_engine
from mfclip.errors import ConfigError, MissingExtraError, WeightsError
from mfclip.model.mfclip import MFCLIP

CPU = torch.device("cpu")
TOLERANCE = 1e-4


def _close(actual: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


def _by_the_model(model: MFCLIP, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        features = model.encode_image(images)
        return model.classify(features), features


@pytest.mark.parametrize("patch_size", [8, 12, 16, 32])  # 12 leaves pixels over
@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
def test_engines_equal_the_model(name: str, patch_size: int) -> None:
    model = tiny_model(noise={"patch_size": patch_size}).eval()
    engine = build_engine(model, name, "fp32", CPU)
    assert (engine.name, engine.precision, engine.image_size) == (name, "fp32", 32)
    for count in (1, 2, 5):
        images = pictures(count)
        logits, features = _by_the_model(model, images)
        judged = engine.judge(images)
        _close(judged.logits, logits)
        _close(judged.features, features)
        assert judged.patch_index is not None
        assert judged.patch_index.tolist() == model.vision_encoder.noise(images)[1].tolist()


@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("switch", ["use_image", "use_noise"])
def test_half_a_vision_encoder(name: str, switch: str) -> None:
    model = tiny_model(**{switch: False}).eval()
    judged = build_engine(model, name, "fp32", CPU).judge(pictures(3))
    _close(judged.logits, _by_the_model(model, pictures(3))[0])
    assert (judged.patch_index is None) == (switch == "use_noise")


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_stays_near_and_keeps_the_patch(name: str) -> None:
    model = tiny_model().eval()
    images = pictures(6)
    try:
        engine = build_engine(model, name, "bf16", CPU)
    except ConfigError as error:
        pytest.skip(str(error))
    judged = engine.judge(images)
    logits, _ = _by_the_model(model, images)
    difference = (judged.logits.softmax(1) - logits.softmax(1)).abs().max().item()
    assert 0 < difference < 0.01  # and it is not fp32 under another name
    assert judged.patch_index is not None
    assert judged.patch_index.tolist() == model.vision_encoder.noise(images)[1].tolist()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = tiny_model()
    model.remember_prompts(KINDS)
    path = tmp_path / "tiny.safetensors"
    save_detector(model, build_config({"model": TINY}).model, path, card=Card(temperature=2.0))
    return path


def test_weights_load_into_every_engine_with_card_and_prompts(weights: Path) -> None:
    results = {}
    for name in ("torch", "onnx", "openvino"):
        engine, card = load_engine(weights, name, device="cpu")
        assert isinstance(engine, Engine)
        assert card.temperature == 2.0
        assert engine.facts.prompts is not None
        features = engine.judge(pictures(2)).features
        assert features is not None
        results[name] = engine.facts.prompts.level_probabilities(features)["generator"]
    names, table = results["torch"]
    assert set(names) == {label.generator or "real" for label in KINDS}
    for other in ("onnx", "openvino"):
        assert results[other][0] == names
        _close(results[other][1], table)


def test_auto_takes_the_fastest_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine("auto", CPU) == "openvino"
    assert choose_engine("auto", torch.device("cuda")) == "torch"
    monkeypatch.setattr(load_module, "find_spec", lambda name: name != "openvino" or None)
    assert choose_engine("auto", CPU) == "onnx"
    monkeypatch.setattr(load_module, "find_spec", lambda _: None)
    assert choose_engine("auto", CPU) == "torch"


def test_a_missing_package_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mfclip\[export\]'"):
        load_engine(weights, "onnx", device="cpu")


def test_what_does_not_exist_is_refused(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of \[auto, torch, onnx, openvino\]"):
        load_engine(weights, "tensorrt", device="cpu")
    with pytest.raises(ConfigError, match="no bf16"):
        load_engine(weights, "onnx", "bf16", device="cpu")
    with pytest.raises(ConfigError, match="mfclip export"):
        load_engine(weights, "openvino", "int8", device="cpu")
    with pytest.raises(ConfigError, match=r"one of \[fp32, bf16, int8\]"):
        load_engine(weights, "openvino", "fp64", device="cpu")
    with pytest.raises(WeightsError, match="no exported file"):
        load_engine(weights.with_suffix(".onnx"), device="cpu")


OTHERS = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in DETECTORS
    if not name.startswith("mfclip")
]


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_detectors_give_their_logits(name: str, engine: str) -> None:
    settings = build_config({"model": {"name": name, **SIZES[name]}}).model
    torch.manual_seed(0)
    detector = build_detector(settings).eval()
    # by formula their pictures would be alike, or their logits in the hundreds
    if name not in ("clip", "vlffd", "recce", "dire"):
        fill(detector)
    images = pictures(3, settings.image_size)
    judged = build_engine(detector, engine, "fp32", CPU).judge(images)
    with torch.no_grad():
        _close(judged.logits, detector(images))
    assert judged.features is None
    assert judged.patch_index is None


class Spectrum(nn.Module):
    """A detector with an operation that ONNX's exporter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.fft.fft2(images).abs().mean((2, 3)))
        return out


def test_a_detector_that_onnx_cannot_hold_runs_with_torch(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS, "spectrum", Row(lambda *_: Spectrum()))
    settings = build_config({"model": {"name": "spectrum", "image_size": 32}}).model
    path = tmp_path / "spectrum.safetensors"
    save_detector(build_detector(settings), settings, path, card=Card())
    with pytest.raises(ConfigError, match="runs with engine torch only"):
        load_engine(path, "onnx", device="cpu")
    engine, _ = load_engine(path, "auto", device="cpu")
    assert engine.name == "torch"
    assert len(capfd.readouterr().out) < 500  # not the whole graph
