"""Hugging Face data sets: pictures byte for byte, labels that are never guessed from numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mfclip.datasets.sources import ScanOptions
from mfclip.datasets.sources.huggingface import scan
from mfclip.errors import ManifestError

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def encode(number: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def make(labels: list[Any], feature: Any, kind: str = "JPEG", **columns: list[Any]) -> Any:
    cells = [{"bytes": encode(n, kind), "path": None} for n in range(len(labels))]
    features = {"image": datasets.Image(), "label": feature}
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(
        {"image": cells, "label": labels, **columns}, features=datasets.Features(features)
    )


def options(tmp_path: Path, **values: Any) -> ScanOptions:
    return ScanOptions(files=tmp_path / "files", val_fraction=0.0, **values)


NAMES = datasets.ClassLabel(names=["fake", "real"])


def test_pictures_labels_and_splits_by_hand(tmp_path: Path) -> None:
    tree = datasets.DatasetDict(
        {
            "train": make([0, 1], NAMES, generator=["SDXL", None]),
            "validation": make([1], NAMES, "PNG", generator=["FFHQ"]),
        }
    )
    tree.save_to_disk(str(tmp_path / "set"))
    result = scan(tmp_path / "set", options(tmp_path))
    rows = [(s.target, s.labels.generator, s.split, s.path.suffix) for s in result.manifest]
    assert rows == [
        (1, "SDXL", "train", ".jpg"), (0, None, "train", ".jpg"), (0, "FFHQ", "val", ".png"),
    ]  # fmt: skip
    assert result.manifest[1].path.read_bytes() == encode(1)  # byte for byte
    again = scan(tmp_path / "set", options(tmp_path))
    assert again.manifest.fingerprint == result.manifest.fingerprint


def test_one_split_is_divided_by_group(tmp_path: Path) -> None:
    names = [f"person {n // 2}" for n in range(40)]
    made = make([n % 2 for n in range(40)], NAMES, group=names)
    made.save_to_disk(str(tmp_path / "set"))
    result = scan(tmp_path / "set", options(tmp_path))
    assert {s.split for s in result.manifest} == {"train", "val", "test"}
    assert any("one split only" in note for note in result.notes)
    by_group = {s.group: s.split for s in result.manifest}
    assert all(by_group[s.group] == s.split for s in result.manifest)


def test_numbers_are_not_guessed(tmp_path: Path) -> None:
    make([0, 1, 1], datasets.Value("int64")).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(ManifestError, match=r"are numbers \(0, 1\); say which mean fake: .*fake=1"):
        scan(tmp_path / "set", options(tmp_path))
    found = scan(tmp_path / "set", options(tmp_path, fake=("0",)))
    assert sum(s.target for s in found.manifest) == 1
    with pytest.raises(ManifestError, match="no label is called 7"):
        scan(tmp_path / "set", options(tmp_path, fake=("7",)))


def test_other_names_are_generators(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["FLUX", "real_photo", "SDXL"])
    make([0, 1, 2], names).save_to_disk(str(tmp_path / "set"))
    rows = [
        (s.target, s.labels.generator) for s in scan(tmp_path / "set", options(tmp_path)).manifest
    ]
    assert rows == [(1, "FLUX"), (0, None), (1, "SDXL")]


def test_parquet_files_and_renamed_columns(tmp_path: Path) -> None:
    made = make([0, 1], NAMES).rename_columns({"image": "photo", "label": "kind"})
    (tmp_path / "set").mkdir()
    made.to_parquet(str(tmp_path / "set" / "train-00000.parquet"))
    with pytest.raises(
        ManifestError, match=r"lacks the column\(s\) image, label; it has photo, kind"
    ):
        scan(tmp_path / "set", options(tmp_path))
    renamed = options(tmp_path, columns={"image": "photo", "label": "kind"})
    assert [s.target for s in scan(tmp_path / "set", renamed).manifest] == [1, 0]


def test_rows_without_picture_or_label_are_counted(tmp_path: Path) -> None:
    cells = [{"bytes": encode(0), "path": None}, {"bytes": b"no picture", "path": None}, None]
    features = datasets.Features({"image": datasets.Image(), "label": NAMES})
    made = datasets.Dataset.from_dict(
        {"image": [*cells, cells[0]], "label": [0, 1, 1, None]}, features
    )
    made.save_to_disk(str(tmp_path / "set"))
    result = scan(tmp_path / "set", options(tmp_path))
    assert len(result.manifest) == 1
    assert "2 rows hold no picture that can be read and were left out" in result.notes
    assert "1 rows have no label and were left out" in result.notes


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"cannot read .*docs/data/huggingface"):
        scan(tmp_path / "empty", options(tmp_path))
    with pytest.raises(ManifestError, match="--option files=FOLDER"):
        scan(tmp_path / "empty")
