"""Which faces and detectors a figure shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mfclip.data.manifest import Manifest
from mfclip.errors import ConfigError
from mfclip.experiment.figures.faces import Named, choose_faces, kind_of, load_named
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.transforms import prepare_face


def test_every_kind_is_there_real_ones_first(kinds_manifest: Manifest) -> None:
    chosen = choose_faces(kinds_manifest, 2)
    kinds = [kind_of(sample.labels) for sample in chosen]
    assert kinds == [k for k in ("real", "DDPM", "Diffae", "FSLSD", "StyleGAN3") for _ in range(2)]
    assert len({sample.path for sample in chosen}) == 10


def test_the_choice_hangs_on_the_seed_only(kinds_manifest: Manifest) -> None:
    chosen = choose_faces(kinds_manifest, 1)
    without = kinds_manifest.where(lambda sample: sample.labels.generator != "DDPM")
    rest = [sample for sample in chosen if sample.labels.generator != "DDPM"]
    assert list(choose_faces(without, 1)) == rest
    others = [choose_faces(kinds_manifest, 1, seed=seed) for seed in range(1, 4)]
    assert any(list(other) != list(chosen) for other in others)


def test_a_forgery_of_unknown_generator_is_no_real_face() -> None:
    assert kind_of(Labels(True, "face_swap")) == "unknown"
    assert kind_of(Labels(False, generator="camera")) == "real"


def test_faces_are_cut_as_the_detector_takes_them(named: Named, kinds_manifest: Manifest) -> None:
    faces = named.read(kinds_manifest)
    expected = prepare_face(read_image(kinds_manifest[3].path), resize=72, image_size=64)
    assert np.array_equal(faces[3].image, expected)
    images = list(named.batches(faces))
    assert [len(part) for part in images] == [16, 16, 16]
    assert images[0][3].mul(255).round().permute(1, 2, 0).numpy().tolist() == expected.tolist()


def test_two_of_one_kind_are_named_by_their_weights(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(weights, other)
    assert [one.name for one in load_named([weights], "cpu")] == ["mfclip"]
    names = [one.name for one in load_named([weights, other], "cpu")]
    assert names == ["mfclip (tiny)", "mfclip (other)"]
    with pytest.raises(ConfigError, match="no device 'abacus'"):
        load_named([weights], "abacus")
