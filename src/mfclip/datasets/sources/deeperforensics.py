"""DeeperForensics-1.0: face swaps by DF-VAE onto the FaceForensics++ videos, eleven variants.

Layout: github.com/EndlessSora/DeeperForensics-1.0, dataset/README.md. The real part is the target
videos, i.e. the c23 originals of FaceForensics++ (same page and its issues 9, 10, 11), not
source_videos/.
"""

from __future__ import annotations

from pathlib import Path

from mfclip.data.manifest import Sample
from mfclip.datasets.sources import faceforensics
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source, conclude
from mfclip.datasets.sources.disk import (
    Clip,
    broken,
    find_clips,
    first_file,
    open_root,
    read_lines,
)
from mfclip.labels import Labels

TITLE = "DeeperForensics-1.0"
PAGE = "docs/data/deeperforensics.md"
RAW = ("end_to_end", "reenact_postprocess")
VARIANTS = (
    *RAW,
    *(f"end_to_end_level_{level}" for level in range(1, 6)),
    "end_to_end_random_level",
    *(f"end_to_end_mix_{count}_distortions" for count in (2, 3, 4)),
)

_REAL = Labels(is_fake=False, generator="youtube")


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read every variant that is there, and the targets of its videos from FaceForensics++.

    Group = the actor whose face was put on (``000_M101`` -> M101), for the target video too: the
    official split divides actors, and each target shows exactly one.

    Raises:
        ManifestError: wrong root, no split list, an empty variant, targets that are not on disk.
    """
    root = open_root(TITLE, root, PAGE)
    if not (root / "manipulated_videos").is_dir():
        raise broken(TITLE, "manipulated_videos/", root, PAGE)
    splits = read_splits(root, options)
    notes: list[str] = []
    samples: list[Sample] = []
    for variant in VARIANTS:
        clips = _clips(root / "manipulated_videos" / variant, options, notes)
        labels = Labels(True, "face_swap", "autoencoder", _generator(variant))
        known = [clip for clip in clips if clip.name in splits]
        for clip in known:
            actor = clip.name.split("_", 1)[1]
            samples += clip.samples(labels, split=splits[clip.name], group=actor, subset=variant)
        if len(known) < len(clips):
            notes.append(f"{variant}: {len(clips) - len(known)} videos are in no split list")
    if not samples:
        expected = f"at least one of {', '.join(VARIANTS[:3])}, ..."
        raise broken(TITLE, expected, root / "manipulated_videos", PAGE)
    samples += _targets(splits, options, notes)
    return conclude(root, samples, notes, options)


def read_splits(root: Path, options: ScanOptions = DEFAULTS) -> dict[str, str]:
    """Map each fake's name without ending to its official split.

    Raises:
        ManifestError: a list is absent.
    """
    places = [options.lists] if options.lists else []
    places += [root / "lists" / "splits", root / "lists"]
    splits = {}
    for split in ("train", "val", "test"):
        path = first_file([place / f"{split}.txt" for place in places])
        if path is None:
            wanted = root / "lists" / "splits" / f"{split}.txt"
            raise broken(TITLE, "the official split list", wanted, PAGE)
        splits.update({Path(line).stem: split for line in read_lines(path)})
    return splits


def _targets(splits: dict[str, str], options: ScanOptions, notes: list[str]) -> list[Sample]:
    if options.ff_root is None:
        notes.append(
            "the real part is not in this data set: give the FaceForensics++ folder with "
            "--option ff_root=FOLDER"
        )
        return []
    owner = {name.split("_", 1)[0]: name for name in splits}
    clips = {c.name: c for c in faceforensics.original_clips(options.ff_root.absolute(), options)}
    samples: list[Sample] = []
    for target, fake in sorted(owner.items()):
        if target in clips:
            actor = fake.split("_", 1)[1]
            samples += clips[target].samples(
                _REAL, split=splits[fake], group=actor, subset="youtube"
            )
    absent = owner.keys() - clips.keys()
    if absent:
        notes.append(f"{len(absent)} of {len(owner)} target videos are not in {options.ff_root}")
    return samples


def _clips(folder: Path, options: ScanOptions, notes: list[str]) -> list[Clip]:
    if not folder.is_dir():
        notes.append(f"{folder.name} is not in this copy")
        return []
    clips = find_clips(folder, options.prefer)
    if not clips:
        raise broken(TITLE, "videos (*.mp4) or frames/*/", folder, PAGE)
    return clips


def _generator(variant: str) -> str:
    """DF-VAE, with the variant named where it is not the plain one, so counts stay apart."""
    return "DF-VAE" if variant == "end_to_end" else f"DF-VAE/{variant}"


DEEPERFORENSICS = Source(
    name="deeperforensics",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("ff_root", "compression", "prefer", "lists"),
    expected={
        **{"youtube": 1000, **{_generator(variant): 1000 for variant in VARIANTS}},
        **{"train/DF-VAE": 703, "val/DF-VAE": 96, "test/DF-VAE": 201},
    },
    unit="videos",
    citation="Jiang et al., DeeperForensics-1.0, CVPR 2020: 11,000 manipulated videos",
)
