"""DF40: methods, splits by download, groups by FF++ number and Celeb-DF video; broken copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import ScanOptions
from mfclip.datasets.sources.celebdf import LIST
from mfclip.datasets.sources.df40 import scan
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ManifestError

Plant = Callable[..., Path]

FRAMES = [
    "DF40_train/simswap/frames/001_870/000.png",
    "DF40_train/simswap/frames/001_870/010.png",
    "DF40_train/StyleGAN2/001/seed0188.png",
    "DF40/simswap/ff/frames/000_003/000.png",
    "DF40/simswap/cdf/frames/id0_id1_0000/000.png",
    "DF40/DiT/cdf/YouTube-real/00043/458.png",
    "DF40/stargan/fake/12.jpg",
    "DF40/stargan/real/12.jpg",
    "DF40/e4e/cdf/Celeb-real/inversions/id0_0000.jpg",
]
FF = {
    "ff/train.json": '[["001", "870"]]',
    "ff/val.json": '[["720", "672"]]',
    "ff/test.json": '[["000", "003"]]',
}


def test_labels_splits_and_groups_by_hand(plant: Plant) -> None:
    result = scan(plant(*FRAMES), ScanOptions(val_fraction=0.0))
    rows = {
        s.path.relative_to(result.manifest.root).as_posix(): (
            s.target, s.labels.manipulation, s.labels.family, s.split, s.group
        )
        for s in result.manifest
    }  # fmt: skip
    assert rows == dict(
        zip(
            FRAMES,
            [
                (1, "face_swap", "gan", "train", "ff_001"),
                (1, "face_swap", "gan", "train", "ff_001"),
                (1, "entire_face_synthesis", "gan", "train", "ff_001"),
                (1, "face_swap", "gan", "test", "ff_000"),
                (1, "face_swap", "gan", "test", "id0_0000"),
                (1, "entire_face_synthesis", "diffusion", "test", "youtube_00043"),
                (1, "attribute_manipulation", "gan", "test", "test/stargan/fake/12"),
                (0, None, None, "test", "test/stargan/real/12"),
                (1, "attribute_manipulation", "gan", "test", "id0_0000"),
            ],
            strict=True,
        )
    )
    assert not check_groups(result.manifest)


def test_reals_come_from_faceforensics_and_celebdf(plant: Plant) -> None:
    root = plant(
        *FRAMES[:5],
        *(f"ff/original_sequences/youtube/c23/videos/{n}.mp4" for n in ("000", "001", "720")),
        "cdf/Celeb-real/id0_0000.mp4",
        "cdf/Celeb-real/id9_0000.mp4",
        "cdf/Celeb-synthesis/id0_id1_0000.mp4",
        **FF,
        **{f"cdf/{LIST}": "1 Celeb-real/id0_0000.mp4\n"},
    )
    options = ScanOptions(ff_root=root / "ff", celebdf_root=root / "cdf", val_fraction=0.0)
    manifest = scan(root, options).manifest
    reals = {(s.video_id, s.split, s.group) for s in manifest if not s.target}
    assert reals == {
        ("youtube/001", "train", "ff_001"),
        ("youtube/000", "test", "ff_000"),
        ("Celeb-real/id0_0000", "test", "id0_0000"),
    }


def test_fakes_only_gets_a_note(plant: Plant) -> None:
    result = scan(plant(*FRAMES[:3], "DF40_train/anchor/000/1.png"))
    assert any("--option ff_root=FOLDER" in note for note in result.notes)
    assert any(note.startswith("anchor/ is no method") for note in result.notes)


def test_the_table_holds_forty_methods_of_the_published_types() -> None:
    table = read_table(builtin_table("df40"))
    labels = [table.find(name) for name in table.names if name != "real"]
    types = [found.manipulation for found in labels if found]
    assert len(types) == 40
    assert [types.count(name) for name in ("face_swap", "reenactment")] == [10, 13]
    assert [types.count(n) for n in ("entire_face_synthesis", "attribute_manipulation")] == [12, 5]


def test_broken_copies(plant: Plant) -> None:
    root = plant("pictures/1.png")
    with pytest.raises(ManifestError, match=r"DF40_train/<method>/ .* see docs/data/df40.md"):
        scan(root)
    (root / "DF40" / "simswap").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"simswap; found an empty folder"):
        scan(root)
