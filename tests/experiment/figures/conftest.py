"""Faces and weights that a figure is drawn from in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers import KINDS
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.detectors import build_detector, save_detector
from mfclip.experiment.figures.faces import Named, load_named
from mfclip.model.mfclip import MFCLIP


@pytest.fixture
def kinds_manifest(made_faces: Path) -> Manifest:
    """The 48 made pictures under the labels of `KINDS` in turn."""
    samples = [
        Sample(sample.path, KINDS[row % len(KINDS)], "test", sample.group)
        for row, sample in enumerate(read_manifest(made_faces))
    ]
    return Manifest(tuple(samples), made_faces.parent)


@pytest.fixture
def weights(tiny_run: dict[str, Any], tmp_path: Path) -> Path:
    """A whole MFCLIP of tiny size, which remembers the prompts of `KINDS`."""
    spa = {"mode": "batch", "batch_size": 6}
    settings = build_config({"model": tiny_run["model"] | {"spa": spa}}).model
    model = build_detector(settings)
    assert isinstance(model, MFCLIP)
    model.remember_prompts(KINDS)
    card = Card(resize=72, temperature=2.0, config={"model": {"name": settings.name}})
    path = tmp_path / "tiny" / "best.safetensors"
    path.parent.mkdir()
    save_detector(model, settings, path, card=card)
    save_detector(model, settings, tmp_path / "half.safetensors", card=card, vision_only=True)
    return path


@pytest.fixture
def named(weights: Path) -> Named:
    return load_named([weights], "cpu")[0]
