"""Celeb-DF v1 and v2: the list's inverted flags, groups by source video, broken copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import SOURCES, ScanOptions, count_items
from mfclip.datasets.sources.celebdf import (
    FACE_SWAPS,
    LIST,
    REENACTMENTS,
    TALKING_FACES,
    scan,
)
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ManifestError

Plant = Callable[..., Path]

LISTED = "1 YouTube-real/00170.mp4\n1 Celeb-real/id1_0007.mp4\n0 Celeb-synthesis/id1_id0_0007.mp4\n"
VIDEOS = [
    "YouTube-real/00170.mp4",
    "YouTube-real/00001.mp4",
    "Celeb-real/id1_0007.mp4",
    "Celeb-real/id2_0000.mp4",
    "Celeb-synthesis/id1_id0_0007.mp4",
    "Celeb-synthesis/id2_id16_0000.mp4",
    "Celeb-synthesis/id2_id17_0000.mp4",
]


@pytest.mark.parametrize("version", ["celebdf_v1", "celebdf_v2"])
@pytest.mark.parametrize("inside", ["", "videos/"])
def test_labels_splits_and_groups_by_hand(plant: Plant, inside: str, version: str) -> None:
    names = [name.replace("/", f"/{inside}") for name in VIDEOS]
    result = SOURCES[version].scan(plant(*names, **{LIST: LISTED}), ScanOptions(val_fraction=0.0))
    rows = {(s.video_id, s.target, s.split, s.group) for s in result.manifest}
    assert rows == {
        ("YouTube-real/00170", 0, "test", "youtube_00170"),
        ("YouTube-real/00001", 0, "train", "youtube_00001"),
        ("Celeb-real/id1_0007", 0, "test", "id1_0007"),
        ("Celeb-real/id2_0000", 0, "train", "id2_0000"),
        ("Celeb-synthesis/id1_id0_0007", 1, "test", "id1_0007"),
        ("Celeb-synthesis/id2_id16_0000", 1, "train", "id2_0000"),
        ("Celeb-synthesis/id2_id17_0000", 1, "train", "id2_0000"),
    }
    assert {s.labels.manipulation for s in result.manifest if s.target} == {"face_swap"}
    assert count_items(result.manifest) == {
        "YouTube-real": 2,
        "Celeb-real": 2,
        "Celeb-synthesis": 3,
    }
    assert not check_groups(result.manifest)


def test_published_counts_are_those_of_the_papers() -> None:
    first, second = SOURCES["celebdf_v1"].expected, SOURCES["celebdf_v2"].expected
    assert first["Celeb-real"] + first["YouTube-real"] == 408
    assert second["Celeb-real"] + second["YouTube-real"] == 890
    assert (first["Celeb-synthesis"], second["Celeb-synthesis"]) == (795, 5639)


def test_validation_is_carved_from_train_by_group(plant: Plant) -> None:
    result = scan(plant(*VIDEOS, **{LIST: LISTED}))
    splits = {s.video_id: s.split for s in result.manifest}
    assert {splits[f"Celeb-synthesis/{n}"] for n in ("id2_id16_0000", "id2_id17_0000")} in (
        {"train"},
        {"val"},
    )
    assert set(splits.values()) == {"train", "val", "test"}
    assert {name for name, split in splits.items() if split == "test"} == {
        "YouTube-real/00170",
        "Celeb-real/id1_0007",
        "Celeb-synthesis/id1_id0_0007",
    }
    assert any("carved from train by group" in note for note in result.notes)


def test_official_leaks_are_told_and_kept_out_of_validation(plant: Plant) -> None:
    leak = "Celeb-synthesis/id1_id4_0007.mp4"  # made from a test video, but not in the list
    result = scan(plant(*VIDEOS, leak, **{LIST: LISTED}), ScanOptions(val_fraction=0.9))
    assert check_groups(result.manifest) == {"id1_0007": ["test", "train"]}
    assert any("1 groups lie in more than one official split" in note for note in result.notes)


def test_partial_copy(plant: Plant) -> None:
    result = scan(plant(VIDEOS[0], VIDEOS[2], **{LIST: LISTED}))
    assert "Celeb-synthesis is not in this copy" in result.notes
    assert any(note.startswith("1 of 3 test videos of the list") for note in result.notes)


def test_broken_copies(plant: Plant) -> None:
    root = plant(*VIDEOS)
    with pytest.raises(ManifestError, match=r"List_of_testing_videos.txt at .*docs/data/celebdf"):
        scan(root)
    plant(**{LIST: LISTED.replace("1 Celeb", "0 Celeb")})
    with pytest.raises(ManifestError, match="flag 1 means real and 0 fake"):
        scan(root)
    plant(**{LIST: "Celeb-real/id1_0007.mp4\n"})
    with pytest.raises(ManifestError, match="expected lines such as"):
        scan(root)
    plant(**{LIST: LISTED})
    (root / VIDEOS[0]).unlink()
    (root / VIDEOS[1]).unlink()
    with pytest.raises(ManifestError, match=r"YouTube-real; found an empty folder"):
        scan(root)
    (root / "only_list").mkdir()
    (root / "only_list" / LIST).write_text(LISTED)
    with pytest.raises(ManifestError, match=r"expected Celeb-real, YouTube-real, Celeb-synth"):
        scan(root / "only_list")


PP_LISTED = (
    "1 Celeb-real/id1_0007.mp4\n0 Celeb-synthesis/FaceSwap/SimSwap/id1_id0_0007.mp4\n"
    "0 Celeb-synthesis/TalkingFace/FLOAT/id1_0007_x.mp4\n"
)
PP_VIDEOS = [
    "Celeb-real/id1_0007.mp4",
    "YouTube-real/00001.mp4",
    "Celeb-synthesis/FaceSwap/SimSwap/id1_id0_0007.mp4",
    "Celeb-synthesis/FaceSwap/Celeb-DF/id1_id0_0007.mp4",  # the same name, not in the list
    "Celeb-synthesis/FaceReenact/DaGAN/id2_id3_0001.mp4",
    "Celeb-synthesis/TalkingFace/FLOAT/id1_0007_x.mp4",
]


@pytest.mark.parametrize("inside", ["", "videos/"])
def test_celebdf_pp_by_hand(plant: Plant, inside: str) -> None:
    names = [f"{Path(n).parent.as_posix()}/{inside}{Path(n).name}" for n in PP_VIDEOS]
    root = plant(*names, "Celeb-synthesis/Odd/New/a.mp4", **{LIST: PP_LISTED})
    result = SOURCES["celebdf_pp"].scan(root, ScanOptions(val_fraction=0.0))
    rows = {(s.labels.generator, s.labels.manipulation, s.split, s.group) for s in result.manifest}
    assert rows == {
        ("Celeb-real", None, "test", "id1_0007"),
        ("YouTube-real", None, "train", "youtube_00001"),
        ("SimSwap", "face_swap", "test", "id1_0007"),
        ("Celeb-DF", "face_swap", "train", "id1_0007"),
        ("DaGAN", "reenactment", "train", "id2_0001"),
        ("FLOAT", "reenactment", "test", "id1_0007"),
    }
    assert "Celeb-synthesis/Odd/New/ is no method of the table and was left out" in result.notes


def test_celebdf_pp_has_22_methods_and_knows_each() -> None:
    methods = (*FACE_SWAPS, *REENACTMENTS, *TALKING_FACES)
    assert (len(FACE_SWAPS), len(REENACTMENTS), len(TALKING_FACES)) == (8, 7, 7)
    table = read_table(builtin_table("celebdf_pp"))
    found = {name: table.find(name) for name in methods}
    assert {name for name, labels in found.items() if labels and labels.generator == name} == {
        *methods
    }
    published = SOURCES["celebdf_pp"].expected
    assert sum(published[f"test/{name}"] for name in methods) == 8 * 200 + 7 * 200 + 7 * 300


def test_celebdf_pp_without_methods_is_refused(plant: Plant) -> None:
    root = plant(*VIDEOS, **{LIST: LISTED})
    with pytest.raises(ManifestError, match=r"<scenario>/<method>/.*docs/data/celebdf"):
        SOURCES["celebdf_pp"].scan(root, ScanOptions())
