"""A table of one's own: CSV, JSON lines or Parquet, with any column names.

Only path and label are needed. Source of the columns: docs/data/table.md.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfclip.data.manifest import (
    EXTRA,
    OPTIONAL,
    REQUIRED,
    Sample,
    find_delimiter,
    parse_extra,
)
from mfclip.datasets.sources.class_folders import SPLIT_FOLDERS
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import broken, read_lines
from mfclip.datasets.splits import assign_splits
from mfclip.errors import ManifestError, require
from mfclip.labels import Labels, parse_label, parse_level

TITLE = "table"
PAGE = "docs/data/table.md"
COLUMNS = (*REQUIRED, *OPTIONAL, *EXTRA)

_NEEDED = ("path", "label")
_SPELLINGS = {
    "efs": "entire_face_synthesis",
    "am": "attribute_manipulation",
    "fe": "attribute_manipulation",
    "fs": "face_swap",
    "fr": "reenactment",
}


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read a table; missing levels stay unknown, missing splits are assigned by hash.

    The group is the column `group`, else `source_path` (fakes of one source and the source itself
    together), else `video_id`, else the path.

    Args:
        root: the file itself; relative paths start from its folder.
        options: `columns` renames: manifest column -> column of the file.

    Raises:
        ManifestError: no such file, a needed column is missing, a row is wrong, no file on disk.
    """
    rows = read_rows(root)
    names = _resolve_columns(rows, root, options.columns)
    folder = root.absolute().parent
    samples = [
        _parse(row, names, folder, f"{root}, row {n}") for n, row in enumerate(rows, start=1)
    ]
    present = [sample for sample in samples if sample.path.is_file()]
    if not present:
        raise broken(TITLE, f"files such as {samples[0].path.name}", samples[0].path, PAGE)
    notes = []
    if len(present) < len(samples):
        notes.append(f"{len(samples) - len(present)} of {len(samples)} files are not on disk")
    return conclude(folder, _split(present, root, notes, options), notes, options)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a table by the file's ending.

    Raises:
        ManifestError: no such file, another ending, or no row.
    """
    if not path.is_file():
        raise broken(TITLE, "a .csv, .jsonl or .parquet file", path, PAGE)
    rows: list[dict[str, Any]]
    if path.suffix in {".csv", ".tsv", ".txt"}:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # spreadsheets of many countries write semicolons, since the comma marks decimals
            delimiter = find_delimiter(file.readline())
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=delimiter))
    elif path.suffix == ".jsonl":
        rows = [_read_object(line, path) for line in read_lines(path)]
    elif path.suffix == ".parquet":
        rows = require("pyarrow.parquet", extra="train").read_table(path).to_pylist()
    else:
        raise ManifestError(f"expected a .csv, .tsv, .jsonl or .parquet file, but got {path.name}")
    if not rows:
        raise ManifestError(f"{path} holds no rows")
    return rows


def _read_object(line: str, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        raise ManifestError(f"{path}: expected one JSON object a line, but got '{line[:60]}'")
    return row


def _resolve_columns(
    rows: Sequence[Mapping[str, Any]], path: Path, renamed: Mapping[str, str]
) -> dict[str, str]:
    """Column of the file for each column of the manifest that it has."""
    unknown = renamed.keys() - set(COLUMNS)
    if unknown:
        raise ManifestError(
            f"expected columns to rename among [{', '.join(COLUMNS)}], but got {sorted(unknown)}"
        )
    there = rows[0].keys()
    names = {name: renamed.get(name, name) for name in COLUMNS}
    missing = [names[name] for name in (*_NEEDED, *renamed) if names[name] not in there]
    if missing:
        raise ManifestError(
            f"{path} lacks the column(s) {', '.join(sorted(set(missing)))}; it has "
            f"{', '.join(there)}; say which is which: --option columns=path:FILE,label:IS_FAKE"
        )
    return {name: column for name, column in names.items() if column in there}


def _parse(row: Mapping[str, Any], names: Mapping[str, str], folder: Path, where: str) -> Sample:
    cells = {name: row.get(column) for name, column in names.items()}
    text = {name: "" if cell is None else str(cell).strip() for name, cell in cells.items()}
    manipulation = parse_level(text.get("manipulation"))
    if manipulation:
        manipulation = _SPELLINGS.get(manipulation.lower(), manipulation)
    family = parse_level(text.get("family"))
    try:
        labels = Labels(
            parse_label(text["label"]),
            manipulation,
            family.lower() if family else None,
            parse_level(text.get("generator")),
        )
        extra = parse_extra(text, folder)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None
    path = text["path"].replace("\\", "/")
    group = text.get("group") or text.get("source_path") or text.get("video_id") or text["path"]
    split = SPLIT_FOLDERS.get(text.get("split", "").lower(), text.get("split", ""))
    video_id = parse_level(text.get("video_id"))
    return Sample(folder / path, labels, split, group.replace("\\", "/"), video_id, **extra)


def _split(
    samples: list[Sample], path: Path, notes: list[str], options: ScanOptions
) -> list[Sample]:
    placed = sum(bool(sample.split) for sample in samples)
    if placed == 0:
        notes.append("no split column: assigned by hash of the group, 80/10/10 % of the groups")
        return assign_splits(samples, seed=options.seed)
    if placed < len(samples):
        raise ManifestError(
            f"{path}: expected a split in every row or in none, but "
            f"{len(samples) - placed} of {len(samples)} rows have none"
        )
    return samples


TABLE = Source(name="table", title=TITLE, scan=scan, page=PAGE, options=("columns",), unit="images")
