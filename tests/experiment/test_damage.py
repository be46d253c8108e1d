"""Faces damaged on the fly are those that are damaged on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import read_manifest
from mfclip.datasets.perturbed_copies import perturb_manifest
from mfclip.errors import ConfigError
from mfclip.experiment.damage import DamagedFaces


@pytest.mark.parametrize(("kind", "level"), [("GB", 3), ("GNC", 5), ("BW", 5), ("CS", 1)])
def test_pixels_are_those_of_damaged_copies(
    made_faces: Path, tmp_path: Path, kind: str, level: int
) -> None:
    part = read_manifest(made_faces).split("test")
    # the pictures are below 256 pixels, where blocks are drawn by area
    report = perturb_manifest(part, tmp_path, [kind], [level], scale_blocks=kind == "BW")
    copies = FaceDataset(read_manifest(report.manifests[kind, level]), resize=72, image_size=64)
    damaged = DamagedFaces(part, kind, level, resize=72, image_size=64)
    clean = FaceDataset(part, resize=72, image_size=64)
    for index in range(3):
        ours = damaged[index, 0].image
        np.testing.assert_array_equal(ours, copies[index, 0].image)
        assert (ours != clean[index, 0].image).any()
        assert damaged[index, 0].labels == part[index].labels


def test_pictures_outside_the_root_are_damaged_alike(made_faces: Path, tmp_path: Path) -> None:
    part = replace(read_manifest(made_faces).split("test"), root=tmp_path / "elsewhere")
    report = perturb_manifest(part, tmp_path, ["GNC"], [5])
    copies = FaceDataset(read_manifest(report.manifests["GNC", 5]), resize=72, image_size=64)
    damaged = DamagedFaces(part, "GNC", 5, resize=72, image_size=64)
    np.testing.assert_array_equal(damaged[0, 0].image, copies[0, 0].image)


def test_mistakes_are_found_before_a_picture_is_read(made_faces: Path) -> None:
    part = read_manifest(made_faces)
    with pytest.raises(ConfigError, match="but got 'blur'"):
        DamagedFaces(part, "blur", 1, resize=72, image_size=64)
    with pytest.raises(ConfigError, match="level to be 0"):
        DamagedFaces(part, "GB", 9, resize=72, image_size=64)
