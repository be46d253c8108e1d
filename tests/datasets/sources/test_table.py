"""Tables of one's own: any column names, levels and splits where given; broken tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mfclip.data.manifest import check_groups, read_manifest
from mfclip.datasets.sources import ScanOptions
from mfclip.datasets.sources.table import read_rows, scan
from mfclip.errors import ManifestError
from mfclip.labels import Labels

Plant = Callable[..., Path]

ROWS = [
    {"file": "a.png", "is_fake": "0", "kind": "", "made_by": "FFHQ", "fold": "train"},
    {"file": "b\\c.png", "is_fake": "1", "kind": "FS", "made_by": "FSLSD", "fold": "valid"},
    {"file": "gone.png", "is_fake": "1", "kind": "EFS", "made_by": "DDPM", "fold": "test"},
]
COLUMNS = {
    "path": "file",
    "label": "is_fake",
    "manipulation": "kind",
    "generator": "made_by",
    "split": "fold",
}


def as_csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(root: Path, rows: list[dict[str, str]], ending: str) -> Path:
    path = root / f"mine{ending}"
    if ending == ".csv":
        path.write_text(as_csv(rows))
    elif ending == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_renamed_columns_by_hand(plant: Plant, ending: str) -> None:
    root = plant("a.png", "b/c.png")
    path = write(root, ROWS, ending)
    result = scan(path, ScanOptions(columns=COLUMNS))
    assert [(s.path, s.labels, s.split) for s in result.manifest] == [
        (root / "a.png", Labels(False, generator="FFHQ"), "train"),
        (root / "b/c.png", Labels(True, "face_swap", None, "FSLSD"), "val"),
    ]
    assert "1 of 3 files are not on disk" in result.notes


def test_source_path_keeps_a_fake_with_its_source(plant: Plant) -> None:
    names = [f"{n}.png" for n in range(30)]
    rows = [{"path": n, "label": "real", "source_path": ""} for n in names]
    rows += [{"path": f"swap/{n}", "label": "fake", "source_path": n} for n in names]
    root = plant(*names, *(f"swap/{n}" for n in names))
    manifest = scan(write(root, rows, ".csv")).manifest
    split = {s.path.relative_to(root).as_posix(): s.split for s in manifest}
    assert all(split[n] == split[f"swap/{n}"] for n in names)
    assert set(split.values()) == {"train", "val", "test"}
    assert not check_groups(manifest)


def test_a_written_manifest_passes_through_unchanged(plant: Plant) -> None:
    root = plant("a.png", "b/c.png")
    scanned = scan(write(root, ROWS, ".csv"), ScanOptions(columns=COLUMNS)).manifest
    scanned.write(root / "manifest.csv")
    again = scan(root / "manifest.csv").manifest
    assert again.fingerprint == read_manifest(root / "manifest.csv").fingerprint
    assert again.samples == scanned.samples


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_columns_may_be_separated_otherwise(plant: Plant, mark: str) -> None:
    root = plant("a,1.png", "b.png")
    (root / "mine.csv").write_text(f"path{mark}label\na,1.png{mark}fake\nb.png{mark}real\n")
    manifest = scan(root / "mine.csv").manifest
    assert [(s.path.name, s.target) for s in manifest] == [("a,1.png", 1), ("b.png", 0)]


def test_broken_tables(plant: Plant) -> None:
    root = plant("a.png")
    with pytest.raises(ManifestError, match=r"expected a .csv, .jsonl or .parquet file at"):
        read_rows(root / "absent.csv")
    (root / "mine.xlsx").write_text("x")
    with pytest.raises(ManifestError, match=r"but got mine\.xlsx"):
        read_rows(root / "mine.xlsx")
    (root / "empty.csv").write_text("path,label\n")
    with pytest.raises(ManifestError, match="holds no rows"):
        read_rows(root / "empty.csv")
    (root / "cut.jsonl").write_text('{"path": "a.png", "label": "real"}\n{"path": "b.p')
    with pytest.raises(ManifestError, match="expected one JSON object a line, but got"):
        read_rows(root / "cut.jsonl")
    path = write(root, ROWS, ".csv")
    with pytest.raises(ManifestError, match=r"lacks the column\(s\) label, path; it has file"):
        scan(path)
    with pytest.raises(ManifestError, match=r"among \[path.*but got \['kind'\]"):
        scan(path, ScanOptions(columns={"kind": "x"}))
    path = write(root, [{"path": "a.png", "label": "maybe"}], ".csv")
    with pytest.raises(ManifestError, match="row 1: expected label to be one of"):
        scan(path)
    path = write(root, [{"path": "z.png", "label": "real"}], ".csv")
    with pytest.raises(ManifestError, match=r"expected files such as z.png .* holds"):
        scan(path)
    rows = [{"path": "a.png", "label": "real", "split": s} for s in ("train", "")]
    with pytest.raises(ManifestError, match="1 of 2 rows have none"):
        scan(write(root, rows, ".csv"))


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_columns_may_be_parted_by_what_spreadsheets_write(plant: Plant, mark: str) -> None:
    root = plant("0.png", "1.png")
    (root / "t.csv").write_text("path,label\n0.png,real\n1.png,fake\n".replace(",", mark))
    found = scan(root / "t.csv").manifest
    assert [(sample.path.name, sample.labels.is_fake) for sample in found] == [
        ("0.png", False), ("1.png", True),
    ]  # fmt: skip
