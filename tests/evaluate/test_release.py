"""Released weights: calibrated on validation, without text half and without places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss, roc_auc_score

from mfclip.config import EvaluateSettings, build_config
from mfclip.data.manifest import read_manifest
from mfclip.detectors import load_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.evaluate.release import release
from mfclip.evaluate.score import score_manifest
from mfclip.train.loop import train
from mfclip.weights import BEST, read_weights


@pytest.fixture
def run(tiny_run: dict[str, Any], tmp_path: Path) -> Path:
    tiny_run["train"]["lr"] = 3e-4  # learns too little to be certain
    train(build_config(tiny_run), tmp_path / "first", device="cpu")
    tiny_run["model"]["pretrained"] = str(tmp_path / "first" / BEST)
    train(build_config(tiny_run), tmp_path / "second", device="cpu")
    return tmp_path / "second"


def test_released_weights_are_what_they_say(run: Path, made_faces: Path, tmp_path: Path) -> None:
    manifest, out = read_manifest(made_faces), tmp_path / "out" / "small.safetensors"
    settings = EvaluateSettings(bootstrap=20)
    released = release(
        run, manifest, out, facts={"limits": "grids only"}, settings=settings, max_error=0.25
    )
    detector, card = load_detector(out)
    assert getattr(detector, "language_encoder", 0) is None
    assert len(getattr(detector, "prompts", ())) == 3
    assert card.limits == "grids only"
    assert card.jpeg_quality is None  # the made faces are PNG files
    assert str(tmp_path).encode() not in out.read_bytes()
    assert card.config["model"]["pretrained"] == f"first/{BEST}"
    assert read_weights(out).settings["pretrained"] == f"first/{BEST}"

    # the temperature is the one that another optimiser finds on validation
    raw = score_manifest(detector, manifest.split("val"), resize=72, image_size=64)
    logits = np.log(raw.score) - np.log1p(-raw.score)
    best = minimize_scalar(
        lambda log_t: log_loss(raw.target, 1 / (1 + np.exp(-logits / np.exp(log_t)))),
        bounds=(-4, 4),
        method="bounded",
    )
    found = log_loss(raw.target, 1 / (1 + np.exp(-logits / card.temperature)))
    assert found <= best.fun + 1e-4

    # the bands promise what the released file does on validation
    bands = card.bands("whole")
    assert bands.max_error == 0.25
    val = score_manifest(
        CalibratedDetector(detector, card.temperature),
        manifest.split("val"),
        resize=72,
        image_size=64,
    )
    verdicts = np.array([bands.verdict(score) for score in val.score])
    alarms = (verdicts[val.target == 0] == "fake").mean()
    misses = (verdicts[val.target == 1] == "real").mean()
    assert max(alarms, misses) <= 0.25
    rates = bands.rates["val"]
    assert [rates[name].value for name in ("false_alarm", "miss")] == [alarms, misses]
    assert list(bands.rates) == ["val", "test"]
    assert (card.fitted_on, bands.fitted_on) == ("val", "val")
    assert card.bands("detected").rates == {}  # they were measured on crops, taken whole

    # the figures are those of the released file on the test split
    test = score_manifest(
        CalibratedDetector(detector, card.temperature),
        manifest.split("test"),
        resize=72,
        image_size=64,
    )
    auc = roc_auc_score(test.target, test.score)
    assert card.metrics["test"]["auc"].value == pytest.approx(auc)
    written = json.loads((out.parent / "small-test.json").read_text())
    assert written["rows"][0]["figures"]["auc"] == pytest.approx(auc)
    assert released["test"].rows[0].metrics.auc == pytest.approx(auc)


def test_released_scores_are_those_of_the_run_at_its_temperature(
    run: Path, made_faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.safetensors"
    release(run, read_manifest(made_faces), out, settings=EvaluateSettings(bootstrap=0))
    before, _ = load_detector(run / BEST)
    after, card = load_detector(out)
    assert card.metrics["test"]["auc"].model_fields_set == {"value"}  # no resamples, so no interval
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images))


def test_validation_cannot_measure_and_an_empty_run_has_nothing(
    run: Path, made_faces: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(made_faces)
    with pytest.raises(ConfigError, match="'val' chose these weights"):
        release(run, manifest, tmp_path / "x.safetensors", splits=("test", "val"))
    with pytest.raises(WeightsError, match="train first"):
        release(tmp_path / "nowhere", manifest, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
