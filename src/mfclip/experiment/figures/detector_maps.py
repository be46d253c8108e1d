"""Heat maps of several detectors side by side (paper Fig. 9b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mfclip.data.dataset import FaceItem
from mfclip.data.manifest import Manifest
from mfclip.experiment.figures.faces import Named, kind_of
from mfclip.experiment.figures.style import LABEL, NOTE, TITLE, new_figure, show_picture
from mfclip.predict.heat_map import colour_heat, heat_map, overlay


def draw_detector_maps(detectors: Sequence[Named], manifest: Manifest) -> Any:
    """Draw a row a face: the face, then where each detector finds traces, with its score.

    Args:
        detectors: one column each; every one sees the faces at its own input size.
        manifest: the faces, a row each.

    Returns:
        A matplotlib figure.
    """
    columns = 1 + len(detectors)
    figure = new_figure(0.9 + 1.55 * columns, 0.8 + 1.7 * len(manifest))
    grid = figure.subplots(len(manifest), columns, squeeze=False)
    for number, detector in enumerate(detectors):
        faces = detector.read(manifest)
        if number == 0:
            _draw_faces(grid[:, 0], faces)
        grid[0, 1 + number].set_title(detector.name, fontsize=LABEL)
        for place, (pixels, score) in zip(grid[:, 1 + number], _maps(detector, faces), strict=True):
            show_picture(place, pixels, note=f"score {score:.2f}")
    _add_scale(figure, grid[:, -1])
    figure.suptitle("What raises the fake score", fontsize=TITLE)
    return figure


def _draw_faces(column: Any, faces: Sequence[FaceItem]) -> None:
    column[0].set_title("face", fontsize=LABEL)
    for place, face in zip(column, faces, strict=True):
        show_picture(place, face.image)
        place.set_ylabel(kind_of(face.labels), fontsize=LABEL)


def _maps(detector: Named, faces: Sequence[FaceItem]) -> list[tuple[np.ndarray, float]]:
    """Return each face under its heat, and its calibrated score."""
    heats: list[np.ndarray] = []
    scores: list[float] = []
    for images in detector.batches(faces):
        heats.extend(heat_map(detector.model, images).cpu().numpy())
        with torch.inference_mode():
            logits = detector.model(images).float() / detector.card.temperature
        scores.extend(logits.softmax(1)[:, 1].tolist())
    pictures = [overlay(face.image, heat) for face, heat in zip(faces, heats, strict=True)]
    return list(zip(pictures, scores, strict=True))


def _add_scale(figure: Any, places: Any) -> None:
    """Show which colour is which heat."""
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415 - new_figure asked for matplotlib
    from matplotlib.colors import ListedColormap  # noqa: PLC0415

    colours = ListedColormap(colour_heat(np.linspace(0, 1, 256)) / 255)
    bar = figure.colorbar(ScalarMappable(cmap=colours), ax=list(places), shrink=0.6, aspect=30)
    bar.ax.tick_params(labelsize=NOTE)
    bar.set_label("heat, 1 = hottest of the face", fontsize=LABEL)
