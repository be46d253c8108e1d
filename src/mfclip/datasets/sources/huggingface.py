"""Data sets of the Hugging Face hub, or saved by its library: pictures in Arrow files -> files.

The library ``datasets`` (Apache-2.0) reads them; no script of a repository is run. Pictures are
written as they are, byte for byte: encoding them again would give real and fake one more common, or
different, trace.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from mfclip.data.manifest import Sample
from mfclip.datasets.sources.class_folders import SPLIT_FOLDERS
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.splits import assign_splits
from mfclip.errors import ManifestError, require
from mfclip.labels import Labels, parse_level
from mfclip.runtime.whole_file import write_bytes

TITLE = "Hugging Face"
PAGE = "docs/data/huggingface.md"
COLUMNS = ("image", "label", "manipulation", "family", "generator", "group", "video_id")

_REAL = ("real", "pristine", "original", "authentic", "genuine")
_FAKE = ("fake", "forged", "deepfake", "synthetic", "generated", "ai")
_ENDINGS = {
    "AVIF": "avif",
    "BMP": "bmp",
    "GIF": "gif",
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "TIFF": "tiff",
    "WEBP": "webp",
}


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What one value of the label column means."""

    is_fake: bool
    generator: str | None = None


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read a data set and write its pictures.

    Args:
        root: folder that ``save_to_disk`` wrote or that holds Parquet or picture files, or the name
            of a repository (``owner/name``), which is then downloaded.
        options: `columns` renames: manifest column, or ``image``, -> column of the data set;
            `fake` names the values of the label column that mean fake; `files` is the folder for
            the pictures; `seed`, `val_fraction`.

    Raises:
        ManifestError: no such data set, a column is missing, or a label means nothing known.
        MissingExtraError: the package ``datasets`` is not installed.
    """
    if options.files is None:
        raise ManifestError(f"{TITLE}: expected --option files=FOLDER for the pictures; see {PAGE}")
    parts = _load(root)
    files = options.files.absolute()
    samples: list[Sample] = []
    unreadable = unlabelled = 0
    for split, part in parts.items():
        names = _resolve_columns(part, root, options.columns)
        meanings = _read_labels(part, names["label"], root, options.fake)
        hub = require("datasets", extra="datasets")
        rows = part.cast_column(names["image"], hub.Image(decode=False))
        for number, row in enumerate(rows):
            if row[names["label"]] is None:
                unlabelled += 1
                continue
            path = _write(row[names["image"]], files / split, number)
            if path is None:
                unreadable += 1
                continue
            samples.append(_sample(row, names, meanings, path, _name_split(split, len(parts))))
    notes = [f"pictures written to {files}, byte for byte"]
    if unreadable:
        notes.append(f"{unreadable} rows hold no picture that can be read and were left out")
    if unlabelled:
        notes.append(f"{unlabelled} rows have no label and were left out")
    if samples and not any(sample.split for sample in samples):
        notes.append("one split only: divided by hash of the group, 80/10/10 % of the groups")
        samples = assign_splits(samples, seed=options.seed)
    return conclude(files, samples, notes, options)


def _load(root: Path) -> Mapping[str, Any]:
    """Splits by name."""
    hub = require("datasets", extra="datasets")
    saved = any((root / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))
    try:
        found = hub.load_from_disk(str(root)) if saved else hub.load_dataset(str(root))
    except (OSError, ValueError) as error:  # what the library raises for all that is not there
        reason = str(error).splitlines()[0]
        raise ManifestError(
            f"{TITLE}: cannot read '{root}' ({reason}); expected a folder of save_to_disk, of "
            f"Parquet files, or the name of a repository on the hub; see {PAGE}"
        ) from None
    return found if isinstance(found, Mapping) else {"all": found}


def _resolve_columns(part: Any, root: Path, renamed: Mapping[str, str]) -> dict[str, str]:
    """Column of the data set for each of ours that it has."""
    unknown = renamed.keys() - set(COLUMNS)
    if unknown:
        raise ManifestError(
            f"expected columns to rename among [{', '.join(COLUMNS)}], but got {sorted(unknown)}"
        )
    there = list(part.column_names)
    names = {name: renamed.get(name, name) for name in COLUMNS}
    missing = [names[name] for name in ("image", "label", *renamed) if names[name] not in there]
    if missing:
        raise ManifestError(
            f"{root} lacks the column(s) {', '.join(sorted(set(missing)))}; it has "
            f"{', '.join(there)}; say which is which: --option columns=image:IMG,label:CLASS"
        )
    return {name: column for name, column in names.items() if column in there}


def _read_labels(
    part: Any, column: str, root: Path, fake: tuple[str, ...]
) -> Mapping[Any, _Meaning]:
    """What each value of the label column means.

    Numbers without names are not guessed: half of the data sets on the hub write 0 for fake.
    """
    names = getattr(part.features[column], "names", None)
    values = dict(enumerate(names)) if names else None
    if values is None:
        values = {value: str(value) for value in part.unique(column) if value is not None}
    if fake:
        absent = set(fake) - {*values.values(), *map(str, values)}
        if absent:
            raise ManifestError(
                f"{root}: no label is called {', '.join(sorted(absent))}; the column '{column}' "
                f"has {', '.join(values.values())}"
            )
        return {
            value: _Meaning(name in fake or str(value) in fake) for value, name in values.items()
        }
    meanings: dict[Any, _Meaning] = {}
    for value, name in values.items():
        word = name.strip().lower()
        if word in _FAKE:
            meanings[value] = _Meaning(True)
        elif word in _REAL or "real" in word:
            meanings[value] = _Meaning(False)
        elif word.lstrip("-").isdigit() or isinstance(value, bool):
            listed = ", ".join(values.values())
            raise ManifestError(
                f"{root}: the labels of column '{column}' are numbers ({listed}); say which mean "
                "fake: --option fake=1"
            )
        else:
            meanings[value] = _Meaning(True, name)
    return meanings


def _write(cell: Any, folder: Path, number: int) -> Path | None:
    """Write one picture as it is, or name the file it lies in; None if it is none."""
    if not cell:
        return None
    data = cell.get("bytes")
    if data is None:
        path = Path(cell.get("path") or "")
        return path.absolute() if path.is_file() else None
    try:
        # the decoder of JPEG reads MPO; Pillow knows none of that name before it has read one
        formats = [name for name in _ENDINGS if name != "MPO"]
        with Image.open(io.BytesIO(data), formats=formats) as image:
            ending = _ENDINGS[image.format or ""]
    except (UnidentifiedImageError, OSError):
        return None
    path = folder / f"{number // 1000:03d}" / f"{number:07d}.{ending}"
    if not path.is_file() or path.stat().st_size != len(data):
        write_bytes(path, data, sync=False)
    return path


def _sample(
    row: Mapping[str, Any],
    names: Mapping[str, str],
    meanings: Mapping[Any, _Meaning],
    path: Path,
    split: str,
) -> Sample:
    text = {
        name: parse_level(None if row[column] is None else str(row[column]))
        for name, column in names.items()
        if name not in {"image", "label"}
    }
    meaning = meanings[row[names["label"]]]
    generator = text.get("generator") or meaning.generator
    levels = (text.get("manipulation"), text.get("family")) if meaning.is_fake else (None, None)
    labels = Labels(meaning.is_fake, *levels, generator)
    video = text.get("video_id")
    group = text.get("group") or video or f"{path.parent.parent.name}/{path.stem}"
    return Sample(path, labels, split, group, video)


def _name_split(name: str, count: int) -> str:
    """One split alone says nothing: most data sets on the hub call it "train"."""
    return "" if count == 1 else SPLIT_FOLDERS.get(name.lower(), name)


HUGGINGFACE = Source(
    name="huggingface",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("columns", "fake", "files"),
    unit="images",
)
