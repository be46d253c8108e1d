"""DFDC preview: dataset.json, people joined over swaps, broken copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import ScanOptions
from mfclip.datasets.sources.dfdcp import scan
from mfclip.errors import ManifestError

Plant = Callable[..., Path]

REAL = "original_videos/643049/643049_A_001.mp4"
FAKE_A = "method_A/643049/643049_A/1255229_643049_A_001.mp4"
FAKE_B = "method_B/1260311/1260311_C/1255229_1260311_C_001.mp4"
TEST = "original_videos/99/99_A_001.mp4"
FACTS: dict[str, dict[str, object]] = {
    REAL: {"label": "real", "set": "train", "target_id": 643049, "swapped_id": None},
    FAKE_A: {"label": "fake", "set": "train", "target_id": 643049, "swapped_id": 1255229},
    FAKE_B: {"label": "fake", "set": "train", "target_id": 1260311, "swapped_id": 1255229},
    TEST: {"label": "real", "set": "test", "target_id": 99, "swapped_id": None},
}


def test_labels_splits_and_groups_by_hand(plant: Plant) -> None:
    root = plant(REAL, FAKE_A, FAKE_B, **{"dataset.json": json.dumps(FACTS)})
    result = scan(root, ScanOptions())
    joined = "person_1255229"  # the face put onto both videos; 643049 and 1260311 hang on it
    rows = [(s.target, s.labels.generator, s.split, s.group) for s in result.manifest]
    assert rows == [
        (0, "original_videos", "train", joined),
        (1, "method_A", "train", joined),
        (1, "method_B", "train", joined),
    ]
    assert not check_groups(result.manifest)
    assert "1 of 4 videos are not on disk" in result.notes


def test_frames_as_deepfakebench_puts_them(plant: Plant) -> None:
    root = plant(
        "original_videos/frames/643049_A_001/000.png", **{"dataset.json": json.dumps(FACTS)}
    )
    assert [s.video_id for s in scan(root).manifest] == ["original_videos/643049_A_001"]


def test_broken_copies(plant: Plant) -> None:
    root = plant(REAL)
    with pytest.raises(ManifestError, match=r"expected dataset.json .* see docs/data/dfdc"):
        scan(root)
    plant(**{"dataset.json": json.dumps({REAL: {"label": "real", "set": "fold1"}})})
    with pytest.raises(ManifestError, match=r"set train\|test, but got .*fold1"):
        scan(root)
    plant(**{"dataset.json": json.dumps({TEST: FACTS[TEST]})})
    with pytest.raises(ManifestError, match="expected original_videos/, method_A/ and method_B/"):
        scan(root)
