"""What lies on disk: pictures, videos, folders of frames, lists; and what to say if it does not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mfclip.data.manifest import Sample
from mfclip.errors import ManifestError
from mfclip.labels import Labels
from mfclip.media.images import IMAGE_SUFFIXES
from mfclip.media.sniff import HEAD, sniff
from mfclip.media.video import VIDEO_SUFFIXES

IMAGES = IMAGE_SUFFIXES
VIDEOS = VIDEO_SUFFIXES

_NO_MEDIA = frozenset({
    ".csv", ".gz", ".h5", ".html", ".json", ".jsonl", ".mat", ".md", ".npy", ".npz", ".parquet",
    ".pdf", ".pkl", ".pt", ".pth", ".py", ".tar", ".toml", ".txt", ".xml", ".yaml", ".yml", ".zip",
})  # fmt: skip
"""Endings of files that are not opened to see: data sets have one such file beside every frame."""

_FRAME_FOLDERS = ("frames", "images")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Clip:
    """One video on disk: its file, or the frames taken from it."""

    name: str
    files: tuple[Path, ...]

    def samples(self, labels: Labels, *, split: str, group: str, subset: str) -> list[Sample]:
        """Return one sample a file; all share the video id ``subset/name``."""
        video_id = f"{subset}/{self.name}"
        return [Sample(path, labels, split, group, video_id) for path in self.files]


def find_media(folder: Path, kinds: frozenset[str] = IMAGES | VIDEOS) -> list[Path]:
    """Return pictures and videos below a folder, sorted; hidden and macOS files are left out."""
    return list(walk_media(folder, kinds))


def walk_media(folder: Path, kinds: frozenset[str] = IMAGES | VIDEOS) -> Iterator[Path]:
    """Yield what `find_media` returns, one by one."""
    for place, names in walk_folders(folder, kinds):
        for name in names:
            yield place / name


def walk_folders(
    folder: Path, kinds: frozenset[str] = IMAGES | VIDEOS
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder from the top down with the names of the media right in it, sorted."""
    for place, names in _walk(folder):
        yield Path(place), sorted(name for name in names if _is_among(place, name, kinds))


def walk_others(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are neither pictures nor videos.

    Hidden files, which nobody put there by hand, are left out.
    """
    for place, names in _walk(folder):
        for name in sorted(names):
            if media_kind(place, name) is None:
                yield Path(place, name)


def media_kind(place: str | Path, name: str) -> Literal["picture", "video"] | None:
    """Tell whether a file is a picture or a video; None for neither.

    The ending decides where it is one of theirs. Of other files the first bytes do, so that a
    download without an ending is not passed over.
    """
    ending = os.path.splitext(name)[1].lower()
    if ending in IMAGES:
        return "picture"
    if ending in VIDEOS:
        return "video"
    path = os.path.join(place, name)
    if ending in _NO_MEDIA or not os.path.isfile(path):  # to open a pipe may never end
        return None
    try:
        with open(path, "rb") as file:
            return sniff(file.read(HEAD))
    except OSError:
        return None


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if f != "__MACOSX" and not f.startswith("."))
        yield place, [name for name in files if not name.startswith(".")]


def _is_among(place: str, name: str, kinds: frozenset[str]) -> bool:
    kind = media_kind(place, name)
    return kind is not None and (IMAGES if kind == "picture" else VIDEOS) <= kinds


def find_clips(folder: Path, prefer: str = "videos") -> list[Clip]:
    """Return the videos of a folder, sorted by name, as files or as frame folders.

    Videos lie in ``folder`` or ``folder/videos``; frames in ``folder/frames/<video>/`` or
    ``folder/images/<video>/``. The other kind is taken where the preferred one is absent or empty.
    """
    videos = [
        Clip(path.stem, (path,))
        for place in (folder, folder / "videos")
        for path in _files(place)
        if path.suffix.lower() in VIDEOS
    ]
    if videos and prefer == "videos":
        return videos
    frames = [clip for name in _FRAME_FOLDERS for clip in _frame_clips(folder / name)]
    return frames or videos


def broken(title: str, expected: str, place: Path, page: str) -> ManifestError:
    """Return the error for a broken copy: what was expected where, what is there, where to read."""
    message = f"{title}: expected {expected} at {place}; found {describe(place)}; see {page}"
    return ManifestError(message)


def describe(place: Path) -> str:
    """Say in a few words what a path holds, for error messages."""
    if not place.exists():
        near = place.parent
        if near.is_dir():
            return f"no such path; {near} holds {describe(near)}"
        return "no such path"
    if place.is_file():
        return "a file"
    names = sorted(entry.name for entry in place.iterdir())
    if not names:
        return "an empty folder"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ManifestError: it is not JSON, e.g. cut short by a broken download.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not readable JSON ({error}); download it again") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file that is an object of objects, e.g. facts by file name.

    Raises:
        ManifestError: it is not JSON, or of another form.
    """
    content = read_json(path)
    if isinstance(content, dict) and all(isinstance(fact, dict) for fact in content.values()):
        return content
    raise ManifestError(f"{path}: expected a JSON object with one object a file name")


def read_lines(path: Path) -> list[str]:
    """Read the non-empty lines of a text file, stripped."""
    text = path.read_text(encoding="utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip()]


def first_file(candidates: Sequence[Path]) -> Path | None:
    """Return the first candidate that is a file."""
    return next((path for path in candidates if path.is_file()), None)


def open_root(title: str, root: Path, page: str) -> Path:
    """Return the root as an absolute path.

    Raises:
        ManifestError: it is absent or a file.
    """
    if not root.is_dir():
        raise broken(title, "a folder", root, page)
    return root.absolute()


def _frame_clips(folder: Path) -> Iterator[Clip]:
    if not folder.is_dir():
        return
    for place in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        frames = tuple(path for path in _files(place) if path.suffix.lower() in IMAGES)
        if frames:
            yield Clip(place.name, frames)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".") and entry.is_file()
        )
