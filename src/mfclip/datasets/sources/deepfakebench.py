r"""DeepfakeBench: its JSON lists and frame folders, so that prepared data need not be made again.

Tree of a list: data set -> class -> split -> [compression ->] video -> {label, frames}; paths may
hold back-slashes. Format: github.com/SCLBD/DeepfakeBench, preprocessing/rearrange.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mfclip.data.manifest import Sample
from mfclip.datasets.sources import celebdf
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import broken, read_json
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.datasets.splits import merge_identities
from mfclip.errors import ManifestError
from mfclip.labels import Labels

TITLE = "DeepfakeBench"
PAGE = "docs/data/deepfakebench.md"

_FAKES = {
    "FF-DF": Labels(True, "face_swap", None, "Deepfakes"),
    "FF-F2F": Labels(True, "reenactment", None, "Face2Face"),
    "FF-FS": Labels(True, "face_swap", None, "FaceSwap"),
    "FF-NT": Labels(True, "reenactment", None, "NeuralTextures"),
    "FF-FH": Labels(True, "face_swap", None, "FaceShifter"),
    "DFD_fake": Labels(True, "face_swap", None, "DeepFakeDetection"),
    "CelebDFv1_fake": Labels(True, "face_swap", "autoencoder", "Celeb-synthesis"),
    "CelebDFv2_fake": Labels(True, "face_swap", "autoencoder", "Celeb-synthesis"),
    "DFDC_Fake": Labels(True, "face_swap", None, "DFDC-fake"),
    "DFDCP_FakeA": Labels(True, "face_swap", None, "method_A"),
    "DFDCP_FakeB": Labels(True, "face_swap", None, "method_B"),
    "DF_fake": Labels(True, "face_swap", "autoencoder", "DF-VAE"),
    "UADFV_Fake": Labels(True, "face_swap", "autoencoder", "UADFV"),
}
_REALS = {
    "FF-real": "youtube",
    "DFD_real": "actors",
    "DFDC_Real": "DFDC-real",
    "DFDCP_Real": "original_videos",
}
"""Class of a list -> what the data set's own source calls the same faces.

So a protocol such as Table V takes either. `DF_real` stays: those are DeeperForensics' source
videos and not the FaceForensics++ originals that its own source takes.
"""

_COMPRESSIONS = ("raw", "c0", "c23", "c40")
_SPLITS = ("test", "train", "val")  # a video listed twice counts for the first of these
_FF_PAIR = re.compile(r"\d{3}(_\d{3})?")
_ACTOR = re.compile(r"[MW]\d{3}")
_TRIES = 50
_CELEB = re.compile(r"id\d+(_id\d+)?_\d+")
_CELEB_REAL = re.compile(r"CelebDFv\d_real")


Found = tuple[Sample, list[str]]
"""A sample whose group is still open, and the sources it shows."""


@dataclass(frozen=True, slots=True)
class _Video:
    """One entry of a list."""

    dataset: str
    label: str
    split: str
    name: str
    frames: tuple[str, ...]


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read one list, or every list of a folder.

    A video that a list names in several splits (its val is often test or train again) is test if
    it is there, else train; then val is carved from train.

    Args:
        root: a JSON list, or a folder with lists (itself, ``dataset_json/`` or
            ``preprocessing/dataset_json/``). Frames are looked for in every folder above the list.
        options: `compression` picks one where the list has several; `val_fraction`, `seed`.

    Raises:
        ManifestError: no list, a list of another form, no frame of a list on disk.
    """
    root = root.absolute()
    notes: list[str] = []
    found: dict[Path, Found] = {}
    for path in _find_lists(root):
        videos = list(_read_list(path, options))
        for sample, people in _place_frames(videos, path, root, notes):
            found.setdefault(sample.path, (sample, people))
    groups = merge_identities([people for _, people in found.values()])
    samples = [
        replace(sample, group=group)
        for (sample, _), group in zip(found.values(), groups, strict=True)
    ]
    return conclude(root if root.is_dir() else root.parent, samples, notes, options)


def class_labels(name: str, video: str = "") -> Labels:
    """Return what a class name of a list means; "real" in it, in any case, means real.

    Args:
        name: of the class.
        video: name of the video, which tells Celeb-DF's two sources of real faces apart.

    Example:
        >>> class_labels("CelebDFv2_real", "id0_0001").generator
        'Celeb-real'
        >>> class_labels("FF-F2F").manipulation
        'reenactment'
        >>> class_labels("DFDC_Real").is_fake
        False
    """
    if name in _FAKES:
        return _FAKES[name]
    if _CELEB_REAL.fullmatch(name) and video:
        source = "Celeb-real" if _CELEB.fullmatch(video) else "YouTube-real"
        return Labels(is_fake=False, generator=source)
    if "real" in name.lower():
        return Labels(is_fake=False, generator=_REALS.get(name, name))
    method = name.removesuffix("_Fake").removesuffix("_fake")
    tables = (read_table(builtin_table(each)) for each in ("df40", "celebdf_pp"))
    found = [labels for table in tables if (labels := table.find(method))]
    # the two spell the methods that they share differently: simswap, SimSwap
    exact = [labels for labels in found if labels.generator == method]
    return next(iter(exact + found), Labels(True, generator=name))


def _find_lists(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    for place in (root, root / "dataset_json", root / "preprocessing" / "dataset_json"):
        lists = sorted(place.glob("*.json"))
        if lists:
            return lists
    raise broken(TITLE, "a JSON list, or a folder that holds some", root, PAGE)


def _read_list(path: Path, options: ScanOptions) -> Iterator[_Video]:
    content = read_json(path)
    videos: list[_Video] = []
    try:
        for dataset, classes in content.items():
            for label, splits in classes.items():
                for split, entries in splits.items():
                    videos += _read_split(entries, (dataset, label, split), options.compression)
    except (AttributeError, TypeError):
        message = f"{path}: expected data set -> class -> split -> video -> frames; see {PAGE}"
        raise ManifestError(message) from None
    unknown = {video.split for video in videos} - set(_SPLITS)
    if unknown or not videos:
        raise ManifestError(
            f"{path}: expected videos in the splits train, val, test, but got {len(videos)} videos "
            f"in {sorted({video.split for video in videos})}; see {PAGE}"
        )
    return iter(sorted(videos, key=lambda video: _SPLITS.index(video.split)))


def _read_split(
    entries: dict[str, Any], place: tuple[str, str, str], compression: str
) -> Iterator[_Video]:
    """Videos of one split; where it is divided by compression, those of the wanted one."""
    dataset, label, split = place
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            continue  # DFDC lists of DeepfakeBench hold a bare {label, frames} as val
        if "frames" in entry:
            frames = tuple(frame.replace("\\", "/") for frame in entry["frames"])
            yield _Video(dataset, label, split, name, frames)
        elif name == compression:
            yield from _read_split(entry, place, compression)
        elif name not in _COMPRESSIONS:  # Celeb-DF++ names the method between split and video
            yield from _read_split(entry, (dataset, name, split), compression)


def _place_frames(
    videos: list[_Video], path: Path, root: Path, notes: list[str]
) -> Iterator[Found]:
    """Turn the entries of a list into samples of frames that are on disk."""
    base, skip = _locate(videos, path, root)
    missing = 0
    for video in videos:
        people = _people(video)
        video_id = f"{video.dataset}/{video.label}/{video.name}"
        labels = class_labels(video.label, video.name)
        for frame in video.frames:
            file = base.joinpath(*_parts(frame)[skip:])
            if file.is_file():
                yield Sample(file, labels, video.split, "", video_id), people
            else:
                missing += 1
    if missing:
        total = sum(len(video.frames) for video in videos)
        notes.append(f"{path.name}: {missing} of {total} frames are not on disk; left out")


def _locate(videos: list[_Video], path: Path, root: Path) -> tuple[Path, int]:
    """Folder that holds the frames, and how many leading folders of a listed path to drop."""
    above = list(dict.fromkeys([root, *path.parents[:4]]))
    bases = [place / inside for place in above for inside in (".", "datasets/rgb", "datasets")]
    tried = [video.frames[0] for video in videos if video.frames][:_TRIES]
    for frame in tried:
        parts = _parts(frame)
        for skip in range(len(parts) - 1):
            for base in bases:
                if base.joinpath(*parts[skip:]).is_file():
                    return base.resolve(), skip
    example = f"frames such as {tried[0] if tried else 'none listed'} of {path.name}, below or near"
    raise broken(TITLE, example, root, PAGE)


def _parts(frame: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(frame).parts if part not in {"/", "."})


def _people(video: _Video) -> list[str]:
    """Sources a video shows, from its name."""
    name = video.name
    if video.label.startswith("FF-") and _FF_PAIR.fullmatch(name):
        return [f"ff_{number}" for number in name.split("_")]
    if _CELEB.fullmatch(name):
        return [celebdf.source_video(celebdf.FAKE_FOLDER, name)]
    if video.label.startswith("DFD_"):
        return [f"actor_{name.split('_')[0]}"]
    actor = _ACTOR.search(name) if video.label.startswith("DF_") else None
    return [actor[0] if actor else f"{video.dataset}/{name}"]


DEEPFAKEBENCH = Source(
    name="deepfakebench",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("compression",),
    unit="videos",
    citation="Yan et al., DeepfakeBench, NeurIPS 2023; counts are those of the data sets in it",
)
