"""DFDC: parts with metadata.json, test with labels.csv; broken copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import ScanOptions, count_items
from mfclip.datasets.sources.dfdc import scan
from mfclip.errors import ManifestError

Plant = Callable[..., Path]

PART = "dfdc_train_part_0/"
VIDEOS = [
    PART + "owxbbpjpch.mp4",
    PART + "vpmyeepbep.mp4",
    PART + "fzvpbrzssi.mp4",
    "test/aalscayrfi.mp4",
    "test/aagfhgtpmv.mp4",
]
METADATA = json.dumps(
    {
        "owxbbpjpch.mp4": {"label": "FAKE", "split": "train", "original": "vpmyeepbep.mp4"},
        "vpmyeepbep.mp4": {"label": "REAL", "split": "train"},
        "fzvpbrzssi.mp4": {"label": "REAL", "split": "train"},
        "notondisk0.mp4": {"label": "REAL", "split": "train"},
    }
)
LISTS = {
    PART + "metadata.json": METADATA,
    "test/labels.csv": "filename,label\naalscayrfi.mp4,0\naagfhgtpmv.mp4,1\n",
    "test/metadata.json": '{"aalscayrfi.mp4": {"is_fake": 0}}',
}


def test_labels_splits_and_groups_by_hand(plant: Plant) -> None:
    result = scan(plant(*VIDEOS, **LISTS), ScanOptions(val_fraction=0.0))
    rows = {(s.path.stem, s.target, s.split, s.group) for s in result.manifest}
    assert rows == {
        ("owxbbpjpch", 1, "train", "vpmyeepbep"),
        ("vpmyeepbep", 0, "train", "vpmyeepbep"),
        ("fzvpbrzssi", 0, "train", "fzvpbrzssi"),
        ("aalscayrfi", 0, "test", "aalscayrfi"),
        ("aagfhgtpmv", 1, "test", "aagfhgtpmv"),
    }
    fake = next(s for s in result.manifest if s.target)
    assert (fake.labels.manipulation, fake.labels.family) == ("face_swap", None)
    assert count_items(result.manifest) == {"DFDC-real": 3, "DFDC-fake": 2}
    assert any("1 of 4 videos are not on disk" in note for note in result.notes)


def test_validation_carved_from_train_keeps_a_fake_with_its_original(plant: Plant) -> None:
    manifest = scan(plant(*VIDEOS, **LISTS), ScanOptions(val_fraction=0.5)).manifest
    assert not check_groups(manifest)
    assert {s.split for s in manifest} == {"train", "val", "test"}


def test_layout_with_train_folder_and_frames(plant: Plant) -> None:
    root = plant(
        "train/dfdc_train_part_7/frames/owxbbpjpch/000.png",
        "train/dfdc_train_part_7/frames/owxbbpjpch/010.png",
        **{"train/dfdc_train_part_7/metadata.json": METADATA},
    )
    result = scan(root)
    assert [s.video_id for s in result.manifest] == ["dfdc_train_part_7/owxbbpjpch"] * 2
    assert any("test part is not in this copy" in note for note in result.notes)


def test_broken_copies(plant: Plant) -> None:
    root = plant(VIDEOS[0])
    with pytest.raises(ManifestError, match=r"metadata.json in the training part .*docs/data/dfdc"):
        scan(root)
    plant(**{PART + "metadata.json": '{"owxbbpjpch.mp4": {"label": "?"}}'})
    with pytest.raises(ManifestError, match="expected label REAL or FAKE"):
        scan(root)
    plant(**{PART + "metadata.json": '["owxbbpjpch.mp4"]'})
    with pytest.raises(ManifestError, match="one object a file name"):
        scan(root)
    plant(**{PART + "metadata.json": METADATA, "test/labels.csv": "name,fake\na.mp4,1\n"})
    with pytest.raises(ManifestError, match="expected a header 'filename,label'"):
        scan(root)
    plant(**{"test/labels.csv": LISTS["test/labels.csv"]})
    with pytest.raises(ManifestError, match=r"expected the test videos beside labels\.csv"):
        scan(root)
    (root / VIDEOS[0]).unlink()
    with pytest.raises(ManifestError, match=r"expected videos .* found metadata.json"):
        scan(root)
    with pytest.raises(ManifestError, match="dfdc_train_part_49"):
        scan(plant("other/a.mp4") / "other")
