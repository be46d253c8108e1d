"""Fig. 9b: every detector's own map and score beside each face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mfclip.data.manifest import Manifest
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.experiment.figures.detector_maps import draw_detector_maps
from mfclip.experiment.figures.faces import choose_faces, load_named
from mfclip.predict.heat_map import heat_map, overlay


def test_each_place_holds_the_map_and_the_calibrated_score(
    weights: Path, kinds_manifest: Manifest
) -> None:
    detectors = load_named([weights, weights.parent.parent / "half.safetensors"], "cpu")
    manifest = choose_faces(kinds_manifest, 1)
    figure = draw_detector_maps(detectors, manifest)
    grid = np.array(figure.axes[: 3 * len(manifest)]).reshape(len(manifest), 3)
    assert [place.get_title() for place in grid[0]] == ["face", "mfclip (tiny)", "mfclip (half)"]
    assert [place.get_ylabel() for place in grid[:, 0]][:2] == ["real", "DDPM"]
    face = detectors[0].read(manifest)[2]
    (images,) = detectors[0].batches([face])
    shown = np.asarray(grid[2, 1].images[0].get_array())
    expected = overlay(face.image, heat_map(detectors[0].model, images)[0])
    assert np.abs(shown.astype(int) - expected).max() <= 1  # rounding in another batch
    with torch.no_grad():
        score = CalibratedDetector(detectors[0].model, 2.0)(images).softmax(1)[0, 1]
    assert grid[2, 1].get_xlabel() == f"score {score:.2f}"
    assert np.array_equal(grid[2, 1].images[0].get_array(), grid[2, 2].images[0].get_array())
