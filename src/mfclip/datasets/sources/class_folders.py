"""The engine of all sources that are trees ``[split/]...class.../files``: class by folder name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfclip.data.manifest import Sample
from mfclip.datasets.sources.contract import ScanOptions, ScanResult, conclude
from mfclip.datasets.sources.disk import (
    broken,
    media_kind,
    open_root,
    walk_folders,
    walk_others,
)
from mfclip.datasets.splits import assign_splits, merge_identities
from mfclip.labels import Labels

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

Lookup = Callable[[Path], Labels | None]
"""Labels of a folder, given by its path below the root; None if it is no class."""

LISTED = 8
"""Folders that a note names."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What the folder of a file says about it.

    Attributes:
        class_folder: the deepest folder that is a class, below the root.
        inside: the folder below that, empty for the class folder itself.
    """

    labels: Labels
    class_folder: str
    inside: str
    split: str | None


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    place: _Place

    def own(self, by_folder: bool) -> str:
        """Name of the source the file shows, as far as its own path tells."""
        inside = self.place.inside
        if by_folder and inside:
            return inside
        stem = os.path.splitext(self.name)[0]
        return f"{inside}/{stem}" if inside else stem

    def video_id(self, by_folder: bool) -> str | None:
        """Id of the video: the file itself, or its folder where that holds frames."""
        is_video = media_kind(self.path.parent, self.name) == "video"
        if is_video or (by_folder and self.place.inside):
            return f"{self.place.class_folder}/{self.own(by_folder)}"
        return None


def scan_tree(
    title: str, page: str, root: Path, lookup: Lookup, options: ScanOptions
) -> ScanResult:
    """Read a tree in which the deepest known folder name is the class of a file.

    Folders named train, val or test anywhere above the file are its official split. Without them
    the split follows from the group: the file's name below its class folder (the same name in two
    classes, or ``a_b`` where a and b are real, is one source), or the folder the file lies in,
    where that holds the frames of a video.

    Args:
        title: of the data set, for messages.
        page: of the documentation, for messages.
        root: top of the tree.
        lookup: labels of a folder.
        options: `group_by`, `val_fraction`, `seed`.

    Raises:
        ManifestError: wrong root, no known class, a class folder without a file.
    """
    root = open_root(title, root, page)
    files, notes, empty = _classify(root, lookup)
    if empty:
        raise broken(title, "pictures or videos", root / empty[0], page)
    if not files:
        raise broken(title, "at least one folder named as a class, with pictures", root, page)
    by_folder = _holds_frames(files) if options.group_by is None else options.group_by == "folder"
    if by_folder:
        notes.append("group = folder of the file: files of one folder are frames of one video")
    groups = merge_identities(_identities(files, by_folder=by_folder))
    samples = [
        Sample(f.path, f.place.labels, f.place.split or "", group, f.video_id(by_folder))
        for f, group in zip(files, groups, strict=True)
    ]
    return conclude(root, _split(samples, notes, options), notes, options)


def _classify(root: Path, lookup: Lookup) -> tuple[list[_File], list[str], list[str]]:
    """All files of known classes, notes on the others, and class folders without any file."""
    files: list[_File] = []
    unknown: dict[str, int] = {}
    held: Counter[str] = Counter()
    for folder, names in walk_folders(root):
        inside = folder.relative_to(root)
        held.update({c.as_posix(): len(names) for c in _class_folders(inside, lookup)})
        place = _read_place(inside, lookup)
        if place is None and names:
            unknown[inside.as_posix()] = len(names)
        elif place is not None:
            files += [_File(folder / name, name, place) for name in names]
    notes = _left_out(unknown, root)
    return files, notes, [folder for folder, count in held.items() if count == 0]


def _left_out(unknown: Mapping[str, int], root: Path) -> list[str]:
    """Say which media belong to no class, and which files are no media."""
    notes = []
    if unknown:
        largest = sorted(unknown, key=lambda folder: -unknown[folder])
        listed = ", ".join(f"{folder} ({unknown[folder]})" for folder in largest[:LISTED])
        more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
        notes.append(
            f"{sum(unknown.values())} files in folders of no known class were left out: "
            f"{listed}{more}"
        )
    others: Counter[str] = Counter()
    shown: list[str] = []
    for path in walk_others(root):
        others[path.suffix.lower()] += 1
        if len(shown) < LISTED:
            shown.append(path.relative_to(root).as_posix())
    if others:
        endings = ", ".join(f"{end or 'no ending'} {n}" for end, n in others.most_common(LISTED))
        more = ", ..." if others.total() > len(shown) else ""
        notes.append(
            f"left out, neither pictures nor videos: {others.total()} ({endings}): "
            f"{', '.join(shown)}{more}"
        )
    return notes


def _class_folders(inside: Path, lookup: Lookup) -> list[Path]:
    return [p for p in (inside, *inside.parents) if p.name and lookup(p)]


def _read_place(inside: Path, lookup: Lookup) -> _Place | None:
    known = next(iter(_class_folders(inside, lookup)), None)
    labels = lookup(known) if known else None
    if known is None or labels is None:
        return None
    splits = [SPLIT_FOLDERS[name.lower()] for name in inside.parts if name.lower() in SPLIT_FOLDERS]
    below = inside.relative_to(known)
    return _Place(
        labels,
        known.as_posix(),
        below.as_posix() if below.name else "",
        splits[0] if splits else None,
    )


def _holds_frames(files: Sequence[_File]) -> bool:
    """Whether a class repeats a file name in several of its sub-folders, as frames do."""
    names = Counter((f.place.class_folder, f.name) for f in files if f.place.inside)
    return any(count > 1 for count in names.values())


def _identities(files: Sequence[_File], *, by_folder: bool) -> list[list[str]]:
    """Sources each file shows; prefixed by the official split, across which names mean nothing."""
    own = [(file.place.split, file.own(by_folder)) for file in files]
    real = {name for file, name in zip(files, own, strict=True) if not file.place.labels.is_fake}
    identities = []
    for split, name in own:
        people = [name] if (split, name) in real else _people(split, name, real)
        identities.append([f"{split}/{who}" if split else who for who in people])
    return identities


def _people(split: str | None, name: str, real: set[tuple[str | None, str]]) -> list[str]:
    """Two real names joined by an underscore, as swaps are named; else the name itself."""
    for at in (i for i, letter in enumerate(name) if letter == "_"):
        pair = (name[:at], name[at + 1 :])
        if all((split, who) in real for who in pair):
            return list(pair)
    return [name]


def _split(samples: list[Sample], notes: list[str], options: ScanOptions) -> list[Sample]:
    placed = [sample for sample in samples if sample.split]
    if not placed:
        notes.append("no official split: assigned by hash of the group, 80/10/10 % of the groups")
        return assign_splits(samples, seed=options.seed)
    if len(placed) < len(samples):
        notes.append(
            f"{len(samples) - len(placed)} files lie outside the train/val/test folders and were "
            "left out"
        )
    return placed
