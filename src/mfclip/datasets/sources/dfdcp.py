"""DFDC preview: dataset.json names every video, its label, its split and the people in it.

Source: Dolhansky et al., arXiv 1910.08854. Both methods are face swaps; neither is described.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfclip.data.manifest import Sample
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import IMAGES, Clip, broken, find_media, open_root, read_mapping
from mfclip.datasets.splits import merge_identities
from mfclip.errors import ManifestError
from mfclip.labels import Labels

TITLE = "DFDC preview"
PAGE = "docs/data/dfdc.md"


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read the videos of dataset.json.

    Group = the people who occur together in swaps (``target_id``, ``swapped_id``), joined.

    Raises:
        ManifestError: wrong root, no dataset.json, a row of another form, no video on disk.
    """
    root = open_root(TITLE, root, PAGE)
    path = root / "dataset.json"
    if not path.is_file():
        raise broken(TITLE, "dataset.json", path, PAGE)
    facts = read_mapping(path)
    clips = {name: clip for name in facts if (clip := _clip(root, name)) is not None}
    if not clips:
        raise broken(TITLE, "original_videos/, method_A/ and method_B/", root, PAGE)
    groups = merge_identities([_people(name, facts[name]) for name in clips])
    samples: list[Sample] = []
    for (name, clip), group in zip(clips.items(), groups, strict=True):
        labels, split = _read_fact(name, facts[name], path)
        samples += clip.samples(labels, split=split, group=group, subset=name.split("/")[0])
    notes = []
    if len(clips) < len(facts):
        notes.append(f"{len(facts) - len(clips)} of {len(facts)} videos are not on disk")
    return conclude(root, samples, notes, options)


def _clip(root: Path, name: str) -> Clip | None:
    """Find the video, or its frames where DeepfakeBench puts them: <class>/frames/<name>/."""
    video = root / name
    if video.is_file():
        return Clip(video.stem, (video,))
    frames = root / Path(name).parts[0] / "frames" / video.stem
    files = tuple(find_media(frames, IMAGES)) if frames.is_dir() else ()
    return Clip(video.stem, files) if files else None


def _people(name: str, fact: Mapping[str, Any]) -> list[str]:
    named = [fact.get("target_id"), fact.get("swapped_id")]
    return [f"person_{who}" for who in named if who is not None] or [Path(name).stem]


def _read_fact(name: str, fact: Mapping[str, Any], path: Path) -> tuple[Labels, str]:
    method, split = name.split("/", maxsplit=1)[0], fact.get("set")
    if fact.get("label") not in {"real", "fake"} or split not in {"train", "val", "test"}:
        raise ManifestError(
            f"{path}, '{name}': expected label real|fake and set train|test, but got {fact}"
        )
    if fact["label"] == "real":
        return Labels(is_fake=False, generator=method), split
    return Labels(is_fake=True, manipulation="face_swap", generator=method), split


DFDCP = Source(
    name="dfdcp",
    title=TITLE,
    scan=scan,
    page=PAGE,
    expected={"original_videos": 1131},
    unit="videos",
    citation=(
        "Li et al., Celeb-DF, CVPR 2020, Table 1 (1,131 real; 4,113 fake over both methods; "
        "DeepfakeBench counts 4,119)"
    ),
)
