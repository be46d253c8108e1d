"""``mfclip export``, and ``--engine`` of predict and evaluate, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import KINDS, TINY, tiny_model
from mfclip.card import Card
from mfclip.cli.app import app
from mfclip.config import build_config
from mfclip.detectors import save_detector
from mfclip.errors import MfclipError

RUNNER = CliRunner()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = tiny_model(image_size=64, noise={"patch_size": 32})
    model.remember_prompts(KINDS)
    path = tmp_path / "weights.safetensors"
    sizes = {**TINY, "image_size": 64, "noise": {**TINY["noise"], "patch_size": 32}}
    card = Card(resize=72, threshold=0.5)
    save_detector(model, build_config({"model": sizes}).model, path, card=card)
    return path


def _run(*arguments: str | Path) -> str:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_exported_weights_predict_and_evaluate(
    weights: Path, tmp_path: Path, made_faces: Path
) -> None:
    out = tmp_path / "model.onnx"
    said = _run("export", "--weights", weights, "--to", "onnx", "--out", out)
    assert "scores differ by at most" in said
    picture = made_faces.parent / "0.png"
    scores = {}
    for name, source in (("plain", weights), ("exported", out)):
        _run(
            "predict", picture, "--whole", "--weights", source, "--json", tmp_path / f"{name}.json"
        )
        document = json.loads((tmp_path / f"{name}.json").read_text())
        scores[name] = document["predictions"][0]["score"]
        assert document["model"]["engine"] == ("torch" if name == "plain" else "onnx")
        options = ["--set", "evaluate.bootstrap=0", "--out", tmp_path / f"{name}-metrics"]
        _run("evaluate", "--manifest", made_faces, "--weights", source, *options)
    assert scores["plain"] == pytest.approx(scores["exported"], abs=1e-4)
    tables = [
        (tmp_path / f"{name}-metrics" / "scores.csv").read_text().splitlines()[1:]
        for name in ("plain", "exported")
    ]
    for one, other in zip(*tables, strict=True):
        assert float(one.split(",")[9]) == pytest.approx(float(other.split(",")[9]), abs=1e-4)


def test_engine_option(weights: Path, tmp_path: Path, made_faces: Path) -> None:
    picture, out = made_faces.parent / "1.png", tmp_path / "result.json"
    options = ["--whole", "--weights", weights, "--json", out]
    _run("predict", picture, *options, "--engine", "openvino")
    assert json.loads(out.read_text())["model"]["engine"] == "openvino"


def test_a_precision_that_nobody_measured_is_named(weights: Path, made_faces: Path) -> None:
    options = ["--whole", "--weights", weights, "--engine", "torch"]
    said = _run("predict", made_faces.parent / "1.png", *options, "--precision", "bf16")
    assert "bf16 changes scores, and by how much was not measured" in said
    assert "changes scores" not in _run("predict", made_faces.parent / "1.png", *options)


def test_bf16_without_faces_says_what_to_add(weights: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m.xml")
    command = ["export", str(weights), "--to", "openvino", "--out", out, "--precision", "bf16"]
    result = RUNNER.invoke(app, command)
    assert isinstance(result.exception, MfclipError)
    assert "--manifest" in str(result.exception)
    assert not Path(out).exists()
