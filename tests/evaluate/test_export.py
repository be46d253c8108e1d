"""Exports of a tiny model: equal to PyTorch, whole or not at all, used like weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import KINDS, TINY, pictures, tiny_model
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.data.manifest import read_manifest
from mfclip.detectors import save_detector
from mfclip.engines import load_engine
from mfclip.errors import ConfigError, WeightsError
from mfclip.evaluate import export as export_module
from mfclip.evaluate.agreement import parity_batch
from mfclip.evaluate.export import export_weights
from mfclip.evaluate.run import load_evaluator
from mfclip.predict.faces import WholePicture
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.runtime.openvino import openvino_core

CARD = Card(threshold=0.45, temperature=2.0, resize=40, licence="for the test")
FILES = {"onnx": "m.onnx", "openvino": "m.xml", "torch": "m.safetensors"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = tiny_model()
    model.remember_prompts(KINDS)
    path = tmp_path / "weights.safetensors"
    save_detector(model, build_config({"model": TINY}).model, path, card=CARD)
    return path


@pytest.mark.parametrize("to", FILES)
def test_an_export_serves_as_weights(weights: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out" / FILES[to]
    report = export_weights(weights, to, out)
    assert report.parity.max_score_difference <= 1e-4
    assert report.parity.same_patches
    picture = (pictures(1, 64)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    results = []
    for source, engine in ((weights, "torch"), (out, "auto")):
        predictor = Predictor.load(source, finder=WholePicture(), engine=engine, device="cpu")
        (result,) = predictor.predict([picture])
        assert isinstance(result, Prediction)
        results.append((predictor, result))
    (_, plain), (predictor, exported) = results
    assert exported.score == pytest.approx(plain.score, abs=1e-4)
    assert exported.patch == plain.patch
    assert exported.kinds.keys() == plain.kinds.keys()
    assert exported.likely_kind("generator") is not None
    assert predictor.card.licence == "for the test"
    assert predictor.card.export.parity.num_images == report.parity.num_images
    assert report.bytes == sum(file.stat().st_size for file in out.parent.iterdir())


def test_the_torch_export_leaves_the_text_half_behind(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    assert export_weights(weights, "torch", out).bytes < weights.stat().st_size / 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precision_is_measured(
    weights: Path, tmp_path: Path, made_faces: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MAX_AUC_CHANGE", {"bf16": 1.0, "int8": 1.0})
    faces = read_manifest(made_faces)
    out = tmp_path / "low.xml"
    try:
        report = export_weights(weights, "openvino", out, precision=precision, manifest=faces)
    except ConfigError as error:
        pytest.skip(str(error))  # a processor without bf16
    evaluations = [
        load_evaluator(source).run(faces, tmp_path / name).evaluations["frame"]
        for name, source in (("plain", weights), ("low", out))
    ]
    plain, low = (one.overall.auc for one in evaluations)
    assert report.change is not None
    assert report.change.num_faces == len(faces.split("test"))
    assert report.change.auc == pytest.approx(plain, abs=1e-6)
    assert report.change.auc_change == pytest.approx(low - plain, abs=1e-6)
    assert 0 < report.change.mean_score_change <= report.change.max_score_change
    engine, card = load_engine(out)
    assert engine.precision == precision
    assert card.export.change.auc_change == report.change.auc_change


@pytest.mark.slow
def test_int8_leaves_the_sensitive_parts_alone(
    weights: Path, tmp_path: Path, made_faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MAX_AUC_CHANGE", {"int8": 1.0})
    out = tmp_path / "low.xml"
    export_weights(weights, "openvino", out, precision="int8", manifest=read_manifest(made_faces))
    model = openvino_core().read_model(out)
    quantised = {
        user.get_node().get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "FakeQuantize"
        for user in node.output(0).get_target_inputs()
    }
    assert any("/stages.3/" in name for name in quantised)  # before the pooling, for stages.4
    assert not [name for name in quantised if "/stages." not in name or "/stages.0/" in name]


def test_a_bad_export_leaves_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    out.write_bytes(b"the older file")
    monkeypatch.setattr(export_module, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(WeightsError, match="differs from PyTorch"):
        export_weights(weights, "onnx", out)
    assert out.read_bytes() == b"the older file"
    assert [file.name for file in out.parent.iterdir()] == ["m.onnx"]


def test_wrong_wishes_are_refused_before_work(weights: Path, tmp_path: Path) -> None:
    cases = [
        ("tflite", "m.tflite", "fp32", "one of"),
        ("onnx", "m.xml", "fp32", r"ending in \.onnx"),
        ("onnx", "m.onnx", "bf16", "no bf16"),
        ("onnx", "m.onnx", "int8", "for openvino only"),
        ("openvino", "m.xml", "bf16", "--manifest"),
    ]
    for to, name, precision, message in cases:
        with pytest.raises(ConfigError, match=message):
            export_weights(weights, to, tmp_path / name, precision=precision)
    with pytest.raises(ConfigError, match="exported already"):
        export_weights(tmp_path / "m.onnx", "onnx", tmp_path / "n.onnx")
    assert [file.name for file in tmp_path.iterdir()] == [weights.name]


def test_the_parity_batch_holds_faces_and_noise() -> None:
    images = parity_batch(64, 72)
    assert images.shape[1:] == (3, 64, 64)
    assert len(images) > 10
    torch.testing.assert_close(images * 255, (images * 255).round(), atol=1e-3, rtol=0)
    assert len({image.sum().item() for image in images}) == len(images)
