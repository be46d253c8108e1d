"""DFDC: fifty training parts, each with a metadata.json, and a test folder with labels.csv.

Source: Dolhansky et al., arXiv 2006.07397. The release calls itself a face-swap data set and names
no method per video, so levels 3 and 4 are unknown.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfclip.data.manifest import Sample
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import (
    Clip,
    broken,
    find_clips,
    first_file,
    open_root,
    read_mapping,
)
from mfclip.errors import ManifestError
from mfclip.labels import Labels, parse_label

TITLE = "DFDC"
PAGE = "docs/data/dfdc.md"

_NOT_TRAINING = ("test", "validation")
_REAL = Labels(is_fake=False, generator="DFDC-real")
_FAKE = Labels(is_fake=True, manipulation="face_swap", generator="DFDC-fake")


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read the training parts and the labelled test videos, as far as they are there.

    Group = the original a fake names; a test video, whose original is not published, is alone.

    Raises:
        ManifestError: wrong root, a part without metadata.json, an empty part, a broken list.
    """
    root = open_root(TITLE, root, PAGE)
    notes: list[str] = []
    samples: list[Sample] = []
    parts = _parts(root)
    for part in parts:
        samples += _scan_part(part, options, notes)
    labels = first_file([root / "test" / "labels.csv", root / "labels.csv"])
    if labels:
        samples += _scan_test(labels, options, notes)
    else:
        notes.append("no test/labels.csv: the test part is not in this copy")
    if not samples:
        expected = "dfdc_train_part_0 ... dfdc_train_part_49 with metadata.json, or test/labels.csv"
        raise broken(TITLE, expected, root, PAGE)
    if not parts:
        notes.append("no dfdc_train_part_N: the training part is not in this copy")
    return conclude(root, samples, notes, options)


def _parts(root: Path) -> list[Path]:
    """Folders of training videos: the numbered parts, and any other that has a metadata.json."""
    places = [root, root / "train"]
    numbered = {p for place in places for p in place.glob("dfdc_train_part_*") if p.is_dir()}
    described = {p.parent for place in places for p in place.glob("*/metadata.json")}
    described |= {place for place in places if (place / "metadata.json").is_file()}
    return sorted(part for part in numbered | described if part.name not in _NOT_TRAINING)


def _scan_part(part: Path, options: ScanOptions, notes: list[str]) -> list[Sample]:
    path = part / "metadata.json"
    if not path.is_file():
        raise broken(TITLE, "metadata.json in the training part", path, PAGE)
    clips = find_clips(part, options.prefer)
    if not clips:
        raise broken(TITLE, "videos (*.mp4) or frames/*/", part, PAGE)
    facts = {Path(name).stem: fact for name, fact in read_mapping(path).items()}
    samples: list[Sample] = []
    for clip in clips:
        if clip.name not in facts:
            continue
        fact = facts[clip.name]
        labels = _FAKE if _is_fake(fact, path) else _REAL
        group = Path(fact.get("original") or clip.name).stem
        samples += clip.samples(labels, split="train", group=group, subset=part.name)
    _compare(f"{part.name}/metadata.json", {clip.name for clip in clips}, set(facts), notes)
    return samples


def _scan_test(path: Path, options: ScanOptions, notes: list[str]) -> list[Sample]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"filename", "label"} <= rows[0].keys():
        raise broken(TITLE, "a header 'filename,label' and one row a video", path, PAGE)
    facts = {Path(row["filename"]).stem: parse_label(row["label"]) for row in rows}
    clips: list[Clip] = find_clips(path.parent, options.prefer)
    if not clips:
        raise broken(TITLE, "the test videos beside labels.csv", path.parent, PAGE)
    _compare("labels.csv", {clip.name for clip in clips}, set(facts), notes)
    return [
        sample
        for clip in clips
        if clip.name in facts
        for sample in clip.samples(
            _FAKE if facts[clip.name] else _REAL, split="test", group=clip.name, subset="test"
        )
    ]


def _is_fake(fact: Mapping[str, Any], path: Path) -> bool:
    label = fact.get("label")
    if label not in {"REAL", "FAKE"}:
        raise ManifestError(f"{path}: expected label REAL or FAKE for each video, but got {fact}")
    return bool(label == "FAKE")


def _compare(name: str, on_disk: set[str], listed: set[str], notes: list[str]) -> None:
    if listed - on_disk:
        notes.append(f"{name}: {len(listed - on_disk)} of {len(listed)} videos are not on disk")
    if on_disk - listed:
        notes.append(f"{name}: {len(on_disk - listed)} videos on disk are not listed; left out")


DFDC = Source(
    name="dfdc",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("prefer",),
    expected={"DFDC-real": 19154 + 2500, "DFDC-fake": 100000 + 2500, "test": 5000},
    unit="videos",
    citation=(
        "Dolhansky et al., arXiv 2006.07397: 119,154 training clips of which 100,000 fake; "
        "public test 5,000, taken as half fake"
    ),
)
