"""The authors' recipes: every file is a run that builds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mfclip.config import load_config
from mfclip.detectors import DETECTORS, build_random

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs" / "baselines").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds_what_it_is_named_after(path: Path) -> None:
    config = load_config(path)
    assert config.model.name == path.stem.split("-")[0]
    assert config.model.name in DETECTORS
    assert config.model.pretrained is None  # named on the command line, since it lies elsewhere
    assert config.data.resize >= config.model.image_size
    with torch.device("meta"):
        detector = build_random(config.model, config.train.loss)
    assert detector.image_size == config.model.image_size


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_how_to_run_it_and_what_to_expect(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = " ".join(head)
    assert f"mfclip train --config configs/baselines/{path.name}" in text
    assert "Hours:" in text
    assert "Paper:" in text
