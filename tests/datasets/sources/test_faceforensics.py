"""FaceForensics++: labels, splits and groups of a small copy, by hand; and broken copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
from PIL import Image

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import SOURCES, ScanOptions, count_items
from mfclip.datasets.sources.faceforensics import mask_path, scan
from mfclip.errors import ConfigError, ManifestError

Plant = Callable[..., Path]

SPLITS = {
    "train.json": '[["953", "974"]]',
    "val.json": '[["720", "672"]]',
    "test.json": '[["000", "003"]]',
}
VIDEOS = [
    *(f"original_sequences/youtube/c23/videos/{n}.mp4" for n in ("953", "974", "720", "000")),
    "original_sequences/youtube/c23/videos/003.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/953_974.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/974_953.mp4",
    "manipulated_sequences/Deepfakes/masks/videos/953_974.mp4",
    "manipulated_sequences/Face2Face/c23/videos/000_003.mp4",
    "manipulated_sequences/NeuralTextures/c23/videos/720_672.mp4",
    "manipulated_sequences/FaceSwap/c23/videos/003_000.mp4",
    "manipulated_sequences/FaceShifter/c23/videos/003_000.mp4",
    "original_sequences/actors/c23/videos/01__exit_phone_room.mp4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
    "manipulated_sequences/DeepFakeDetection/masks/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
]


def test_labels_splits_and_groups_by_hand(plant: Plant) -> None:
    result = scan(plant(*VIDEOS, **SPLITS))
    rows = {
        s.video_id: (s.target, s.labels.manipulation, s.labels.family, s.split, s.group)
        for s in result.manifest
    }
    assert rows == {
        "youtube/000": (0, None, None, "test", "000_003"),
        "youtube/003": (0, None, None, "test", "000_003"),
        "youtube/720": (0, None, None, "val", "672_720"),
        "youtube/953": (0, None, None, "train", "953_974"),
        "youtube/974": (0, None, None, "train", "953_974"),
        "Deepfakes/953_974": (1, "face_swap", None, "train", "953_974"),
        "Deepfakes/974_953": (1, "face_swap", None, "train", "953_974"),
        "Face2Face/000_003": (1, "reenactment", None, "test", "000_003"),
        "NeuralTextures/720_672": (1, "reenactment", None, "val", "672_720"),
        "FaceSwap/003_000": (1, "face_swap", None, "test", "000_003"),
        "FaceShifter/003_000": (1, "face_swap", None, "test", "000_003"),
        "actors/01__exit_phone_room": (0, None, None, "test", "actor_01"),
        "DeepFakeDetection/01_02__exit_phone_room__YVGY8LOK": (
            1, "face_swap", None, "test", "actor_01"
        ),
    }  # fmt: skip
    assert not check_groups(result.manifest)
    fakes = [s.labels for s in result.manifest if s.labels.is_fake]
    assert {labels.depth for labels in fakes} == {2}
    assert count_items(result.manifest)["youtube"] == 5
    assert count_items(result.manifest).keys() <= SOURCES["faceforensics"].expected.keys()
    assert any("mask is there for 1 of 1" in note for note in result.notes)
    with av.open(result.manifest[0].path) as video:
        assert video.streams.video[0].width == 16


def test_frames_of_either_layout_are_read_and_one_video_id_covers_them(plant: Plant) -> None:
    frames = "original_sequences/youtube/c40/images/000/"
    benchmark = "manipulated_sequences/FaceSwap/c40/frames/000_003/"
    masks = "manipulated_sequences/FaceSwap/c40/masks/000_003/"
    root = plant(
        frames + "0000.png",
        frames + "0001.png",
        benchmark + "005.png",
        masks + "005.png",
        "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
        **{f"splits/{name}": text for name, text in SPLITS.items()},
    )
    result = scan(root, ScanOptions(compression="c40"))
    assert [(s.path.name, s.video_id) for s in result.manifest] == [
        ("0000.png", "youtube/000"),
        ("0001.png", "youtube/000"),
        ("005.png", "FaceSwap/000_003"),
    ]
    assert count_items(result.manifest) == {"youtube": 1, "FaceSwap": 1}
    assert mask_path(result.manifest[2].path) == root / masks / "005.png"
    assert "Deepfakes has no c40: found c23" in result.notes
    with Image.open(result.manifest[0].path) as picture:
        assert picture.size == (16, 16)


def test_a_partial_copy_works_and_says_what_is_absent(plant: Plant) -> None:
    root = plant("manipulated_sequences/Deepfakes/c23/videos/000_003.mp4", **SPLITS)
    result = scan(root)
    assert len(result.manifest) == 1
    assert "manipulated_sequences/FaceSwap is not in this copy" in result.notes
    assert "only fake samples were found" in result.notes


def test_videos_that_are_no_official_pair_are_left_out(plant: Plant) -> None:
    root = plant(
        "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/000_953.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/111_222.mp4",
        **SPLITS,
    )
    result = scan(root)
    assert [s.path.stem for s in result.manifest] == ["000_003"]
    assert any("Deepfakes: 2 videos are no pair" in note for note in result.notes)


def test_preferred_kind(plant: Plant) -> None:
    place = "original_sequences/youtube/c23/"
    root = plant(place + "videos/000.mp4", place + "frames/000/000.png", **SPLITS)
    assert [s.path.suffix for s in scan(root).manifest] == [".mp4"]
    frames = scan(root, ScanOptions(prefer="frames"))
    assert [s.path.suffix for s in frames.manifest] == [".png"]


def test_broken_copies_say_what_is_missing_where(plant: Plant, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"expected a folder at .*; see docs/data/facef"):
        scan(tmp_path / "nowhere")
    root = plant(*VIDEOS[:2])
    with pytest.raises(ManifestError, match=r"found c23|manipulated_sequences/ at"):
        scan(root / "original_sequences")
    with pytest.raises(ManifestError, match=r"expected the official split list train.json"):
        scan(root)
    plant(**{**SPLITS, "val.json": '[["720",'})
    with pytest.raises(ManifestError, match=r"val.json is not readable JSON"):
        scan(root)
    plant(**{**SPLITS, "val.json": '["720", "672"]'})
    with pytest.raises(ManifestError, match=r"expected a list of pairs"):
        scan(root)
    plant(**SPLITS)
    (root / "manipulated_sequences/FaceSwap/c23/videos").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"expected videos/\*.mp4.*FaceSwap/c23; found videos"):
        scan(root)
    with pytest.raises(ConfigError, match=r"compression to be one of \[raw, c0, c23, c40\]"):
        scan(root, replace(ScanOptions(), compression="c24"))
    with pytest.raises(ManifestError, match=r"frames at raw in .* youtube has no raw: found c23;"):
        scan(root, replace(ScanOptions(), compression="raw"))


def test_lists_may_lie_elsewhere(plant: Plant, tmp_path: Path) -> None:
    root = plant(*VIDEOS[:5])
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, text in SPLITS.items():
        (lists / name).write_text(text)
    assert len(scan(root, ScanOptions(lists=lists)).manifest) == 5
