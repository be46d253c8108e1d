"""FaceForensics++ with FaceShifter and DeepFakeDetection: videos or extracted frames.

Layout and splits: github.com/ondyari/FaceForensics, dataset/README.md and dataset/splits.
Labels stop at level 2, as in the paper; the method's name is kept as generator for the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mfclip.data.manifest import Sample
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import (
    IMAGES,
    Clip,
    broken,
    describe,
    find_clips,
    first_file,
    open_root,
    read_json,
)
from mfclip.errors import ConfigError, ManifestError
from mfclip.labels import Labels

TITLE = "FaceForensics++"
PAGE = "docs/data/faceforensics.md"
COMPRESSIONS = ("raw", "c0", "c23", "c40")

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "Deepfakes": "face_swap",
        "Face2Face": "reenactment",
        "FaceSwap": "face_swap",
        "NeuralTextures": "reenactment",
        "FaceShifter": "face_swap",
    }
)
"""The five methods on the 1,000 YouTube videos, and what each is at level 2."""

_DFD = "DeepFakeDetection"
_LISTED = {"train": 720, "val": 140, "test": 140}
_YOUTUBE, _ACTORS = "original_sequences/youtube", "original_sequences/actors"


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read FaceForensics++ at one compression.

    Group of a video = its official pair, e.g. ``000_003`` for 000, 003, 000_003 and 003_000.
    DeepFakeDetection has no official split and is test only; its group is the actor shown.

    Raises:
        ManifestError: wrong root, no split list, or a folder that is there but empty.
    """
    root = open_root(TITLE, root, PAGE)
    if not any((root / name).is_dir() for name in ("original_sequences", "manipulated_sequences")):
        raise broken(TITLE, "original_sequences/ and manipulated_sequences/", root, PAGE)
    notes: list[str] = []
    samples: list[Sample] = []
    real = _clips(root / _YOUTUBE, options, notes)
    fakes = {name: _clips(_method(root, name), options, notes) for name in METHODS}
    if real or any(fakes.values()):
        pairs = read_pairs(root, options)
        samples += _label(real, Labels(is_fake=False, generator="youtube"), pairs, notes)
        for name, clips in fakes.items():
            labels = Labels(is_fake=True, manipulation=METHODS[name], generator=name)
            samples += _label(clips, labels, pairs, notes)
    samples += _actors(root, options, notes)
    if not samples:
        raise ManifestError(
            f"{TITLE}: expected videos or frames at {options.compression} in {root}, but "
            f"{'; '.join(notes)}; see {PAGE}"
        )
    return conclude(root, samples, notes, options)


def read_pairs(root: Path, options: ScanOptions) -> dict[str, tuple[str, str]]:
    """Map each original's number to its official split and its pair, e.g. ``("test", "000_003")``.

    Raises:
        ManifestError: a list is absent, or is no list of pairs.
    """
    places = [root, root / "splits", root / "dataset" / "splits"]
    if options.lists:
        places.insert(0, options.lists)
    pairs = {}
    for split in ("train", "val", "test"):
        path = first_file([place / f"{split}.json" for place in places])
        if path is None:
            expected = f"the official split list {split}.json (or in splits/, dataset/splits/)"
            raise broken(TITLE, expected, root, PAGE)
        content = read_json(path)
        try:
            for first, second in content:
                pairs[first] = pairs[second] = (split, "_".join(sorted((first, second))))
        except (TypeError, ValueError):
            message = f"{path}: expected a list of pairs such as [['000', '003'], ...]; see {PAGE}"
            raise ManifestError(message) from None
    return pairs


def original_clips(root: Path, options: ScanOptions) -> list[Clip]:
    """Return the 1,000 YouTube originals, which other data sets use as their real part.

    Raises:
        ManifestError: they are not there at the wanted compression.
    """
    clips = _clips(root / _YOUTUBE, options, [])
    if not clips:
        expected = f"the originals at {options.compression}"
        raise broken(TITLE, expected, root / _YOUTUBE / options.compression, PAGE)
    return clips


def mask_path(path: Path) -> Path | None:
    """Return the mask of a manipulated video or frame, or None if there is none on disk.

    Masks are the same at every compression: ``<method>/masks/videos/<name>.mp4`` as handed out,
    ``<method>/<compression>/masks/<video>/<frame>`` as DeepfakeBench extracts them.
    """
    if path.suffix.lower() in IMAGES:
        compressed = path.parents[2]
        inside = Path(path.parent.name, path.name)
        places = [compressed / "masks" / inside]
        places += [compressed.parent / "masks" / kind / inside for kind in ("frames", "images")]
    else:
        compressed = path.parent.parent
        places = [compressed.parent / "masks" / "videos" / path.name]
    return first_file(places)


def _actors(root: Path, options: ScanOptions, notes: list[str]) -> list[Sample]:
    """DeepFakeDetection: ``AA__scene`` originals, ``TT_SS__scene__hash`` fakes, all test."""
    samples = []
    real = Labels(is_fake=False, generator="actors")
    fake = Labels(is_fake=True, manipulation="face_swap", generator=_DFD)
    for place, labels in ((root / _ACTORS, real), (_method(root, _DFD), fake)):
        for clip in _clips(place, options, notes):
            group = f"actor_{clip.name.split('_')[0]}"
            subset = labels.generator or ""
            samples += clip.samples(labels, split="test", group=group, subset=subset)
    masked = sum(mask_path(s.path) is not None for s in samples if s.labels.is_fake)
    if samples:
        notes.append(
            f"{_DFD} has no official split: all of it is test; its scenes show several faces, and "
            f"a mask is there for {masked} of {sum(s.target for s in samples)} fake files"
        )
    return samples


def _label(
    clips: list[Clip], labels: Labels, pairs: Mapping[str, tuple[str, str]], notes: list[str]
) -> list[Sample]:
    samples = []
    unlisted = []
    for clip in clips:
        places = {pairs.get(number) for number in clip.name.split("_")}
        place = places.pop()
        if place is None or places:
            unlisted.append(clip.name)
            continue
        split, group = place
        subset = labels.generator or ""
        samples += clip.samples(labels, split=split, group=group, subset=subset)
    if unlisted:
        notes.append(
            f"{labels.generator}: {len(unlisted)} videos are no pair of an official split list and "
            f"were left out, e.g. {unlisted[0]}"
        )
    return samples


def _clips(place: Path, options: ScanOptions, notes: list[str]) -> list[Clip]:
    """Clips of one subset at the wanted compression; absent -> a note, empty -> an error."""
    if options.compression not in COMPRESSIONS:
        choices = ", ".join(COMPRESSIONS)
        raise ConfigError(
            f"expected compression to be one of [{choices}], but got '{options.compression}'"
        )
    folder = place / options.compression
    if not place.is_dir():
        notes.append(f"{place.parent.name}/{place.name} is not in this copy")
        return []
    if not folder.is_dir():
        notes.append(f"{place.name} has no {options.compression}: found {describe(place)}")
        return []
    clips = find_clips(folder, options.prefer)
    if not clips:
        raise broken(TITLE, "videos/*.mp4, frames/*/ or images/*/", folder, PAGE)
    return clips


def _method(root: Path, name: str) -> Path:
    return root / "manipulated_sequences" / name


FACEFORENSICS = Source(
    name="faceforensics",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("compression", "prefer", "lists"),
    expected={
        **{"youtube": 1000, **dict.fromkeys(METHODS, 1000), "actors": 363, _DFD: 3068},
        **{f"{split}/{name}": n for name in ("youtube", *METHODS) for split, n in _LISTED.items()},
    },
    unit="videos",
    citation="Roessler et al., FaceForensics++, ICCV 2019, and the DeepFakeDetection release",
)
