"""The engine of all sources that are trees ``[split/]...class.../files``: class by folder name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfclip.data.manifest import Sample
from mfclip.data.sources.contract import ScanOptions, ScanResult, conclude
from mfclip.data.sources.disk import VIDEOS, broken, open_root, walk_media
from mfclip.data.splits import assign_splits, merge_identities
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

Lookup = Callable[[str], Labels | None]


@dataclass(frozen=True, slots=True)
class _File:
    """One file, its class folder below the root, and its own place below that."""

    path: Path
    labels: Labels
    class_folder: Path
    below: Path
    split: str | None


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
        lookup: labels of a folder name, None if it is no class.
        options: `group_by`, `val_fraction`, `seed`.

    Raises:
        ManifestError: wrong root, no known class, a class folder without a file.
    """
    root = open_root(title, root, page)
    _refuse_empty_classes(title, page, root, lookup)
    files, notes = _classify(root, lookup)
    if not files:
        raise broken(title, "at least one folder named as a class, with pictures", root, page)
    by_folder = _holds_frames(files) if options.group_by is None else options.group_by == "folder"
    if by_folder:
        notes.append("group = folder of the file: files of one folder are frames of one video")
    groups = merge_identities(_identities(files, by_folder=by_folder))
    samples = [
        Sample(file.path, file.labels, file.split or "", group, _video_id(file, by_folder))
        for file, group in zip(files, groups, strict=True)
    ]
    return conclude(root, _split(samples, notes, options), notes, options)


def _classify(root: Path, lookup: Lookup) -> tuple[list[_File], list[str]]:
    files: list[_File] = []
    unknown: Counter[str] = Counter()
    for path in walk_media(root):
        inside = path.relative_to(root)
        folders = [p for p in inside.parents if p.name]
        known = next((p for p in folders if lookup(p.name)), None)
        labels = lookup(known.name) if known else None
        if known is None or labels is None:
            unknown[str(folders[0]) if folders else "."] += 1
            continue
        names = [SPLIT_FOLDERS.get(p.name.lower()) for p in reversed(folders)]
        split = next((name for name in names if name), None)
        files.append(_File(path, labels, known, inside.relative_to(known), split))
    notes = [
        f"{count} files in '{place}' belong to no known class and were left out"
        for place, count in sorted(unknown.items())
    ]
    return files, notes


def _refuse_empty_classes(title: str, page: str, root: Path, lookup: Lookup) -> None:
    for folder in _subfolders(root):
        if lookup(folder.name) and next(walk_media(folder), None) is None:
            raise broken(title, "pictures or videos", folder, page)


def _subfolders(root: Path, depth: int = 3) -> Iterable[Path]:
    """Folders down to the depth at which classes lie, e.g. train/I2I/LoRA; not every video."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and entry.name != "__MACOSX":
            yield entry
            if depth > 1:
                yield from _subfolders(entry, depth - 1)


def _holds_frames(files: Sequence[_File]) -> bool:
    """Whether a class repeats a file name in several of its sub-folders, as frames do."""
    names: Counter[tuple[Path, str]] = Counter()
    for file in files:
        if len(file.below.parts) > 1:
            names[file.class_folder, file.path.name] += 1
    return any(count > 1 for count in names.values())


def _identities(files: Sequence[_File], *, by_folder: bool) -> list[list[str]]:
    """Sources each file shows; prefixed by the official split, across which names mean nothing."""
    own = [_own(file, by_folder) for file in files]
    real = {(f.split, name) for f, name in zip(files, own, strict=True) if not f.labels.is_fake}
    identities = []
    for file, name in zip(files, own, strict=True):
        people = [name] if (file.split, name) in real else _people(file, name, real)
        identities.append([f"{file.split}/{who}" if file.split else who for who in people])
    return identities


def _people(file: _File, name: str, real: set[tuple[str | None, str]]) -> list[str]:
    """Two real names joined by an underscore, as swaps are named; else the name itself."""
    for at in (i for i, letter in enumerate(name) if letter == "_"):
        pair = (name[:at], name[at + 1 :])
        if all((file.split, who) in real for who in pair):
            return list(pair)
    return [name]


def _own(file: _File, by_folder: bool) -> str:
    below = file.below.parent if by_folder and len(file.below.parts) > 1 else file.below
    return below.as_posix() if by_folder else below.with_suffix("").as_posix()


def _video_id(file: _File, by_folder: bool) -> str | None:
    name = f"{file.class_folder.as_posix()}/{_own(file, by_folder)}"
    is_video = file.path.suffix.lower() in VIDEOS
    return name if is_video or (by_folder and len(file.below.parts) > 1) else None


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
