"""DF40: forty methods on FaceForensics++ and Celeb-DF, as frames.

Layout: ``DF40_train/<method>/frames/<pair>/<frame>``, ``DF40/<method>/{ff,cdf}/frames/...``,
``DF40/<method>/{real,fake}/...``; github.com/YZY-stack/DF40 and its issues 14, 29, 33, 41. Most
methods come without real faces: those are FaceForensics++ and Celeb-DF.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mfclip.data.manifest import Sample
from mfclip.datasets.sources import celebdf, faceforensics
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import broken, open_root, walk_media
from mfclip.datasets.sources.generators import GeneratorTable, builtin_table, read_table
from mfclip.datasets.splits import merge_identities
from mfclip.labels import Labels

TITLE = "DF40"
PAGE = "docs/data/df40.md"
PARTS = {"DF40_train": "train", "train": "train", "DF40": "test", "test": "test"}
"""Folder of a download -> split; DF40 has no validation split (its lists repeat test as val)."""

_PAIR = re.compile(r"(\d{3})(?:_(\d{3}))?")
_CELEB = re.compile(r"id\d+(?:_id\d+)?_\d+")
_PLACES = {"frames", "videos", "ff", "cdf", "fake", "real", "inversions"}

Found = tuple[Sample, list[str]]
"""A sample whose group is still open, and the sources it shows."""


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read the training and testing downloads, whichever are there.

    Group = the FaceForensics++ numbers or Celeb-DF source video of the folder name, joined over
    swaps; elsewhere the video folder itself.

    Raises:
        ManifestError: wrong root, no known method, a method folder without a file.
    """
    root = open_root(TITLE, root, PAGE)
    table = read_table(options.table or builtin_table("df40"))
    notes: list[str] = []
    found: list[Found] = []
    parts = {name: split for name, split in PARTS.items() if (root / name).is_dir()}
    for name, split in (parts or {".": "test"}).items():
        found += _scan_part(root / name, split, table, notes)
    if not found:
        raise broken(TITLE, "DF40_train/<method>/ or DF40/<method>/, e.g. simswap", root, PAGE)
    found += list(_real_ff(options)) + list(_real_celeb(options))
    if not any(not sample.labels.is_fake for sample, _ in found):
        notes.append(
            "no real faces here: add those of FaceForensics++ and Celeb-DF with "
            "--option ff_root=FOLDER --option celebdf_root=FOLDER"
        )
    groups = merge_identities([people for _, people in found])
    samples = [replace(s, group=group) for (s, _), group in zip(found, groups, strict=True)]
    return conclude(root, samples, notes, options)


def _scan_part(part: Path, split: str, table: GeneratorTable, notes: list[str]) -> list[Found]:
    found: list[Found] = []
    for folder in sorted(entry for entry in part.iterdir() if entry.is_dir()):
        labels = table.find(folder.name)
        if labels is None:
            notes.append(f"{folder.name}/ is no method of the table and was left out")
            continue
        files = list(walk_media(folder))
        if not files:
            raise broken(TITLE, "frames or videos", folder, PAGE)
        found += [_read_file(path, folder, labels, split) for path in files]
    return found


def _read_file(path: Path, method: Path, labels: Labels, split: str) -> Found:
    inside = path.relative_to(method)
    folders = inside.parts[:-1]
    if "real" in (name.lower() for name in folders):
        labels = Labels(is_fake=False, generator=f"{method.name}-real")
    video = path.parent.name if folders and path.parent.name not in _PLACES else path.stem
    video_id = "/".join((split, method.name, *folders))
    if video == path.stem:
        video_id = f"{video_id}/{video}"
    people = _people(video, folders) or [video_id]
    return Sample(path, labels, split, "", video_id), people


def _people(video: str, folders: Iterable[str]) -> list[str]:
    """Sources in a folder name: ``000_003``, ``id0_id1_0000``, or a number below YouTube-real."""
    places = set(folders)
    pair = _PAIR.fullmatch(video)
    if pair and "real" not in places and "fake" not in places:
        return [f"ff_{number}" for number in pair.groups() if number]
    if _CELEB.fullmatch(video):
        return [celebdf.source_video(celebdf.FAKE_FOLDER, video)]
    if "YouTube-real" in places:
        return [celebdf.source_video("YouTube-real", video)]
    return []


def _real_ff(options: ScanOptions) -> Iterable[Found]:
    """Originals of the train and test lists; those of val have no fakes in DF40."""
    if options.ff_root is None:
        return
    root = options.ff_root.absolute()
    pairs = faceforensics.read_pairs(root, replace(options, lists=None))
    labels = Labels(is_fake=False, generator="youtube")
    for clip in faceforensics.original_clips(root, options):
        split = pairs.get(clip.name, ("", ""))[0]
        if split in {"train", "test"}:
            for sample in clip.samples(labels, split=split, group="", subset="youtube"):
                yield sample, [f"ff_{clip.name}"]


def _real_celeb(options: ScanOptions) -> Iterable[Found]:
    """Real videos of the Celeb-DF test list."""
    if options.celebdf_root is None:
        return
    result = celebdf.scan(options.celebdf_root, replace(options, lists=None, val_fraction=0.0))
    for sample in result.manifest:
        if not sample.labels.is_fake and sample.split == "test":
            yield sample, [sample.group]


DF40 = Source(
    name="df40",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("table", "ff_root", "celebdf_root", "compression", "prefer"),
    unit="videos",
    citation="Yan et al., DF40, NeurIPS 2024 (per-method counts only as a picture)",
)
