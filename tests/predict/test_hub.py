"""Weights that are saved to a folder and loaded again judge alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mfclip.card import Card
from mfclip.config import build_config
from mfclip.detectors import build_detector, save_detector
from mfclip.predict.faces import WholePicture
from mfclip.predict.hub import HubPredictor
from mfclip.predict.prediction import Prediction


def test_saved_folder_judges_as_the_file_it_came_from(tmp_path: Path) -> None:
    settings = build_config({"model": {"name": "mfclip-small"}}).model
    file = tmp_path / "weights.safetensors"
    save_detector(build_detector(settings), settings, file, card=Card(threshold=0.4))
    first = HubPredictor.load(file, finder=WholePicture())
    first.save_pretrained(tmp_path / "folder")
    again = HubPredictor.from_pretrained(str(tmp_path / "folder"), finder=WholePicture())
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    (one,), (two,) = first.predict([picture]), again.predict([picture])
    assert isinstance(one, Prediction)
    assert isinstance(two, Prediction)
    assert one.score == two.score
    assert again.bands.fake_from == 0.4
