"""Fig. 1a: the right patches, and the noise that the detector sees."""

from __future__ import annotations

import numpy as np
import torch

from mfclip.data.dataset import FaceItem
from mfclip.experiment.figures.patch_noise import draw_patch_noise, find_patches
from mfclip.labels import Labels
from mfclip.model.patch_selector import select_richest_patch
from mfclip.model.srm import noise_residual
from mfclip.predict.prediction import Box


def _face(seed: int) -> np.ndarray:
    """Noise that grows from the first to the last quarter."""
    rng = np.random.default_rng(seed)
    strength = np.kron(np.array([[0, 3], [9, 90]]), np.ones((16, 16)))[..., None]
    pixels: np.ndarray = (128 + strength * rng.uniform(-1, 1, (32, 32, 3))).astype(np.uint8)
    return pixels


def test_richest_and_poorest_of_four() -> None:
    richest, poorest = find_patches(_face(0), 16)
    assert richest.box == Box(16, 16, 32, 32)
    assert poorest.box == Box(0, 0, 16, 16)
    assert poorest.homogeneity == 1  # a flat patch
    assert 0 < richest.homogeneity < 0.5
    assert np.array_equal(richest.cut(_face(0)), _face(0)[16:, 16:])


def test_the_richest_is_the_detectors() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        face = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        images = torch.from_numpy(face).permute(2, 0, 1)[None].float() / 255
        patch, index = select_richest_patch(images, 8)
        richest, _ = find_patches(face, 8)
        assert richest.box.top // 8 * 4 + richest.box.left // 8 == index.item()
        assert np.array_equal(richest.cut(face), (patch[0].permute(1, 2, 0) * 255).round().numpy())


def test_a_column_a_face() -> None:
    faces = [FaceItem(_face(0), Labels(False), 0), FaceItem(_face(1), Labels(True), 1)]
    figure = draw_patch_noise(faces, patch_size=16, pixel_scale=64.0)
    grid = np.array(figure.axes).reshape(5, 2)
    assert [place.get_title() for place in grid[0]] == ["real", "unknown"]
    face, richest, noise, poorest, silence = (
        np.asarray(place.images[0].get_array()) for place in grid[:, 1]
    )
    assert np.array_equal(face, _face(1))
    assert np.array_equal(richest, _face(1)[16:, 16:])
    assert np.array_equal(poorest, _face(1)[:16, :16])
    patch = torch.from_numpy(richest.copy()).permute(2, 0, 1)[None].float() / 255
    expected = noise_residual(patch, 64.0)[0]
    assert np.allclose(noise, expected.mean(0))
    assert np.abs(silence).max() < 1e-5
    strength = expected.abs().mean().item()
    assert grid[2, 1].get_xlabel() == f"strength {strength:.2f}"
    assert grid[4, 1].get_xlabel() == "strength 0.00"
