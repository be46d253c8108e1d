"""DeeperForensics-1.0: real part from FaceForensics++ by the first three digits; broken copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import ScanOptions, count_items
from mfclip.datasets.sources.deeperforensics import scan
from mfclip.errors import ManifestError

Plant = Callable[..., Path]

LISTS = {
    "lists/splits/train.txt": "000_M101.mp4\n004_M101.mp4\n",
    "lists/splits/val.txt": "001_W005.mp4\n",
    "lists/splits/test.txt": "003_M004.mp4\n",
}
FAKES = [
    "manipulated_videos/end_to_end/000_M101.mp4",
    "manipulated_videos/end_to_end/001_W005.mp4",
    "manipulated_videos/end_to_end/003_M004.mp4",
    "manipulated_videos/end_to_end_level_5/003_M004.mp4",
]
REALS = [f"ff/original_sequences/youtube/c23/videos/{n}.mp4" for n in ("000", "001", "003", "777")]


def test_labels_splits_and_groups_by_hand(plant: Plant) -> None:
    root = plant(*FAKES, *REALS, **LISTS)
    result = scan(root, ScanOptions(ff_root=root / "ff"))
    rows = [(s.video_id, s.target, s.split, s.group) for s in result.manifest]
    assert rows == [
        ("end_to_end/000_M101", 1, "train", "M101"),
        ("end_to_end/001_W005", 1, "val", "W005"),
        ("end_to_end/003_M004", 1, "test", "M004"),
        ("end_to_end_level_5/003_M004", 1, "test", "M004"),
        ("youtube/000", 0, "train", "M101"),
        ("youtube/001", 0, "val", "W005"),
        ("youtube/003", 0, "test", "M004"),
    ]
    labels = result.manifest[0].labels
    assert (labels.manipulation, labels.family, labels.generator) == (
        "face_swap",
        "autoencoder",
        "DF-VAE",
    )
    assert count_items(result.manifest) == {
        "DF-VAE": 3,
        "DF-VAE/end_to_end_level_5": 1,
        "youtube": 3,
    }
    assert not check_groups(result.manifest)
    assert any("1 of 4 target videos are not in" in note for note in result.notes)
    assert "reenact_postprocess is not in this copy" in result.notes


def test_without_faceforensics_the_note_says_how_to_get_reals(plant: Plant) -> None:
    result = scan(plant(*FAKES, "source_videos/M004/M004_light_up.mp4", **LISTS))
    assert {s.target for s in result.manifest} == {1}
    assert any("--option ff_root=FOLDER" in note for note in result.notes)


def test_broken_copies(plant: Plant) -> None:
    root = plant(*FAKES)
    with pytest.raises(ManifestError, match=r"split list at .*train.txt; .*deeperforensics.md"):
        scan(root)
    plant(**LISTS)
    with pytest.raises(ManifestError, match=r"FaceForensics.*expected the originals at c23"):
        scan(root, ScanOptions(ff_root=root))
    with pytest.raises(ManifestError, match="expected manipulated_videos/"):
        scan(root / "manipulated_videos")
    (root / "manipulated_videos/reenact_postprocess").mkdir()
    with pytest.raises(ManifestError, match="reenact_postprocess; found an empty folder"):
        scan(root)
