"""The figures by name: weights and a manifest in, a picture file out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mfclip.data.manifest import Manifest
from mfclip.errors import ConfigError
from mfclip.experiment.figures.detector_maps import draw_detector_maps
from mfclip.experiment.figures.faces import Named, choose_faces, load_named
from mfclip.experiment.figures.feature_map import draw_feature_map, place_features, vision_features
from mfclip.experiment.figures.patch_noise import draw_patch_noise
from mfclip.experiment.figures.similarity import (
    choose_batch,
    draw_similarity,
    known_faces,
    largest_batch,
    similarity_matrices,
)
from mfclip.experiment.figures.style import check_ending, save_figure
from mfclip.model.mfclip import MFCLIP

POINTS = 60
"""Faces a generator in the t-SNE map."""

PATCH_SIZE = 112
"""Patches of Fig. 1a for another detector than MFCLIP (the paper's p)."""


def write_picture(
    name: str,
    manifest: Manifest,
    out: Path,
    *,
    weights: Sequence[str | Path | None] = (None,),
    device: str = "auto",
    seed: int = 0,
) -> Path:
    """Draw one figure of what detectors see.

    Args:
        name: a key of `FIGURES`.
        manifest: faces to choose from; a few of every generator are shown.
        out: a file ending in .png, .svg or .pdf.
        weights: of the detectors; None for the embedded ones.
        device: where they compute.
        seed: of the choice of the faces, and of t-SNE.

    Raises:
        ConfigError: no such figure, ending or device, or too many weights for it.
        WeightsError: weights are absent, damaged, or lack what the figure shows.
        InputError: a picture cannot be read.
        MissingExtraError: matplotlib or scikit-learn is not installed.
        OSError: the folder is not writable or the disk is full.
    """
    if name not in FIGURES:
        raise ConfigError(f"expected a figure among {', '.join(FIGURES)}, but got '{name}'")
    check_ending(out)
    if len(weights) > 1 and name in SINGLE:
        raise ConfigError(f"{name} shows one detector, but got {len(weights)} weights")
    detectors = load_named(weights, device)
    return save_figure(FIGURES[name](detectors, manifest, seed), out)


def _patch_noise(detectors: Sequence[Named], manifest: Manifest, seed: int) -> Any:
    (detector,) = detectors
    faces = detector.read(choose_faces(manifest, 1, seed=seed))
    if not isinstance(detector.model, MFCLIP):
        return draw_patch_noise(faces, patch_size=min(PATCH_SIZE, len(faces[0].image)))
    encoder = detector.model.vision_encoder
    scale = encoder.pixel_scale
    return draw_patch_noise(faces, patch_size=encoder.patch_size, pixel_scale=scale)


def _similarity(detectors: Sequence[Named], manifest: Manifest, seed: int) -> Any:
    for detector in detectors:
        manifest = known_faces(detector, manifest)
    batch = choose_batch(manifest, min(map(largest_batch, detectors)), seed=seed)
    matrices = [m for one in detectors for m in similarity_matrices(one, one.read(batch))]
    return draw_similarity(matrices, [sample.labels for sample in batch])


def _detector_maps(detectors: Sequence[Named], manifest: Manifest, seed: int) -> Any:
    return draw_detector_maps(detectors, choose_faces(manifest, 1, seed=seed))


def _feature_map(detectors: Sequence[Named], manifest: Manifest, seed: int) -> Any:
    (detector,) = detectors
    faces = detector.read(choose_faces(manifest, POINTS, seed=seed))
    places = place_features(vision_features(detector, faces), seed=seed)
    title = f"Vision features of {detector.name}"
    return draw_feature_map(places, [face.labels for face in faces], title=title)


FIGURES: dict[str, Callable[[Sequence[Named], Manifest, int], Any]] = {
    "fig1a": _patch_noise,
    "fig9a": _similarity,
    "fig9b": _detector_maps,
    "tsne": _feature_map,
}

SINGLE = frozenset({"fig1a", "tsne"})
"""Figures that show one detector."""
