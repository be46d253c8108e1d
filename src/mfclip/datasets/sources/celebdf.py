"""Celeb-DF v1, v2 and Celeb-DF++: folders of videos and a list of the test videos.

Layouts: github.com/yuezunli/celeb-deepfakeforensics and github.com/OUC-VAS/Celeb-DF-PP. In the
list, flag 1 means real, 0 fake: the other way round than everywhere in mfclip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mfclip.data.manifest import Sample
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import (
    Clip,
    broken,
    find_clips,
    first_file,
    open_root,
    read_lines,
)
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ManifestError
from mfclip.labels import Labels

TITLE = "Celeb-DF"
PAGE = "docs/data/celebdf.md"
LIST = "List_of_testing_videos.txt"
REAL_FOLDERS = ("Celeb-real", "YouTube-real")
FAKE_FOLDER = "Celeb-synthesis"

FACE_SWAPS = (
    *("Celeb-DF", "BlendFace", "GHOST", "HifiFace", "InSwapper", "MobileFaceSwap", "SimSwap"),
    "UniFace",
)
REENACTMENTS = ("DaGAN", "FSRT", "HyperReenact", "LIA", "LivePortrait", "MCNET", "TPSMM")
TALKING_FACES = (
    *("AniTalker", "EchoMimic", "EDTalk", "FLOAT", "IP_LAP", "Real3DPortrait", "SadTalker"),
)
"""The methods of Celeb-DF++'s three scenarios, as its folders are called."""

_SWAP = re.compile(r"(id\d+)(?:_id\d+)?_(\d+)(?:_.*)?")
_FIELDS = 2
_INSIDE = ("videos", "frames")
"""Folders that some tools put between a class and its videos."""


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read Celeb-DF; what the list names is test, the rest is train.

    Group = the real video a fake was made from: ``id0_id16_0003`` belongs to ``id0_0003``.

    Raises:
        ManifestError: wrong root, no list, a malformed or inverted list, an empty folder.
    """
    fakes = {FAKE_FOLDER: Labels(True, "face_swap", "autoencoder", FAKE_FOLDER)}
    return _scan(open_root(TITLE, root, PAGE), fakes, options)


def scan_pp(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read Celeb-DF++: ``Celeb-synthesis/<scenario>/<method>/``; every method is a generator.

    Raises:
        ManifestError: as `scan`, or no method that the table names.
    """
    root = open_root(TITLE, root, PAGE)
    table = read_table(options.table or builtin_table("celebdf_pp"))
    fakes: dict[str, Labels] = {}
    notes: list[str] = []
    for scenario in _folders(root / FAKE_FOLDER):
        for method in _folders(scenario):
            labels = table.find(method.name)
            name = method.relative_to(root).as_posix()
            if labels is None:
                notes.append(f"{name}/ is no method of the table and was left out")
            else:
                fakes[name] = labels
    if not fakes:
        raise broken(TITLE, "<scenario>/<method>/, e.g. FaceSwap/SimSwap", root / FAKE_FOLDER, PAGE)
    result = _scan(root, fakes, options)
    return replace(result, notes=(*notes, *result.notes))


def _scan(root: Path, fakes: Mapping[str, Labels], options: ScanOptions) -> ScanResult:
    """Read the real folders and the given fake ones."""
    notes: list[str] = []
    listed = read_test_list(root, options)
    samples: list[Sample] = []
    found: set[tuple[str, str]] = set()
    reals = {name: Labels(is_fake=False, generator=name) for name in REAL_FOLDERS}
    for folder, labels in {**reals, **fakes}.items():
        for clip in _clips(root / folder, options, notes):
            key = (folder, clip.name)
            found.add(key)
            split = "test" if key in listed else "train"
            group = source_video(folder, clip.name)
            samples += clip.samples(labels, split=split, group=group, subset=folder)
    if not samples:
        raise broken(TITLE, ", ".join((*reals, *fakes)), root, PAGE)
    absent = sorted(listed - found)
    if absent:
        notes.append(
            f"{len(absent)} of {len(listed)} test videos of the list are not on disk, e.g. "
            f"{'/'.join(absent[0])}"
        )
    return conclude(root, samples, notes, options)


def read_test_list(root: Path, options: ScanOptions = DEFAULTS) -> set[tuple[str, str]]:
    """Read the official list as pairs (folder, video name without ending).

    Raises:
        ManifestError: it is absent, has a line of another form, or a flag that contradicts its
            folder.
    """
    places = [place for place in (options.lists, root) if place is not None]
    path = first_file([place / LIST for place in places])
    if path is None:
        raise broken(TITLE, f"the official list {LIST}", root, PAGE)
    return {_parse_line(line, path) for line in read_lines(path)}


def source_video(folder: str, name: str) -> str:
    """Return the real video that a video shows or was made from.

    Example:
        >>> source_video("Celeb-synthesis", "id0_id16_0003")
        'id0_0003'
        >>> source_video("YouTube-real", "00170")
        'youtube_00170'
        >>> source_video("Celeb-synthesis/TalkingFace/FLOAT", "id0_0003_speech")
        'id0_0003'
    """
    if folder == "YouTube-real":
        return f"youtube_{name}"
    swap = _SWAP.fullmatch(name)
    return f"{swap[1]}_{swap[2]}" if swap else name


def _parse_line(line: str, path: Path) -> tuple[str, str]:
    fields = line.replace("\\", "/").split(maxsplit=1)
    parts = Path(fields[-1]).parts
    if len(fields) != _FIELDS or fields[0] not in {"0", "1"} or len(parts) < _FIELDS:
        raise ManifestError(
            f"{path}: expected lines such as '1 Celeb-real/id0_0001.mp4', but got '{line}'"
        )
    if (fields[0] == "1") != (parts[0] in REAL_FOLDERS):
        raise ManifestError(
            f"{path}: '{line}' contradicts itself; in this list flag 1 means real and 0 fake. "
            f"Download the official list again; see {PAGE}"
        )
    folder = "/".join(part for part in parts[:-1] if part not in _INSIDE)
    return folder, Path(parts[-1]).stem


def _clips(folder: Path, options: ScanOptions, notes: list[str]) -> list[Clip]:
    if not folder.is_dir():
        notes.append(f"{folder.name} is not in this copy")
        return []
    clips = find_clips(folder, options.prefer)
    if not clips:
        raise broken(TITLE, "videos (*.mp4, videos/*.mp4) or frames/*/", folder, PAGE)
    return clips


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir()) if place.is_dir() else []


CELEBDF_V1 = Source(
    name="celebdf_v1",
    title="Celeb-DF v1",
    scan=scan,
    page=PAGE,
    options=("prefer", "lists"),
    expected={"Celeb-real": 158, "YouTube-real": 250, "Celeb-synthesis": 795},
    unit="videos",
    citation="Li et al., Celeb-DF, arXiv 1909.12962v1 (408 real, 795 fake)",
    official_groups=True,
)

CELEBDF_V2 = Source(
    name="celebdf_v2",
    title="Celeb-DF v2",
    scan=scan,
    page=PAGE,
    options=("prefer", "lists"),
    expected={
        **{"Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639},
        **{"test/real": 178, "test/fake": 340},
    },
    unit="videos",
    citation="Li et al., Celeb-DF, CVPR 2020",
    official_groups=True,
)

CELEBDF_PP = Source(
    name="celebdf_pp",
    title="Celeb-DF++",
    scan=scan_pp,
    page=PAGE,
    options=("prefer", "lists", "table"),
    expected={
        **{"Celeb-real": 590, "YouTube-real": 300, "test/real": 178},
        **dict.fromkeys((f"test/{name}" for name in (*FACE_SWAPS, *REENACTMENTS)), 200),
        **dict.fromkeys((f"test/{name}" for name in TALKING_FACES), 300),
    },
    unit="videos",
    citation="Li et al., Celeb-DF++, arXiv 2507.18015 and its repository's README",
    official_groups=True,
)
