"""What every source shares: one `scan(root, options)`, its options, its result.

A source turns a data set as its authors hand it out into a manifest. Adding one is described in
docs/data/adding_a_source.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from mfclip.data.manifest import Manifest, Sample, check_groups
from mfclip.datasets.splits import carve_validation
from mfclip.errors import ManifestError


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """Choices of a scan; `Source.options` says which of them a source heeds.

    Attributes:
        compression: FaceForensics++ quality: raw, c0, c23 or c40.
        prefer: what to take where both videos and extracted frames are on disk.
        lists: folder of the official split lists, if they do not lie where they are expected.
        table: TOML table folder name -> manipulation, family; replaces the source's own.
        ff_root: FaceForensics++ folder, for sources whose real part it is.
        celebdf_root: Celeb-DF v2 folder, likewise.
        columns: for tables: manifest column -> column of the file.
        group_by: what makes a group in plain folder trees; found from the names if omitted.
        fake: values of a label column that mean fake, where its names do not say so.
        files: folder for pictures that lie inside other files.
        val_fraction: share of the training groups moved to val where the source has no val.
        seed: of every split that is not official.
    """

    compression: str = "c23"
    prefer: Literal["videos", "frames"] = "videos"
    lists: Path | None = None
    table: Path | None = None
    ff_root: Path | None = None
    celebdf_root: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    group_by: Literal["file", "folder"] | None = None
    fake: tuple[str, ...] = ()
    files: Path | None = None
    val_fraction: float = 0.1
    seed: int = 0


DEFAULTS = ScanOptions()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """A manifest and what the user should know about how it came to be."""

    manifest: Manifest
    notes: tuple[str, ...] = ()


@runtime_checkable
class Scan(Protocol):
    """The one entry of every source."""

    def __call__(self, root: Path, options: ScanOptions = ...) -> ScanResult:
        """Read the data set below `root`; a broken copy raises ManifestError."""


@dataclass(frozen=True, slots=True)
class Source:
    """One data set: how it is read and what its authors say it holds.

    Attributes:
        name: word for the command line.
        title: the data set's name.
        scan: reads it.
        page: its page in the documentation.
        options: names of the `ScanOptions` fields it heeds besides `val_fraction` and `seed`.
        expected: published number of `unit` for each class; a class is the manifest's generator,
            which for real faces is the name of their source, and may be headed by a split, as in
            ``test/Deepfakes``. Empty if nothing is published.
        unit: what `expected` counts.
        citation: where the numbers are published.
        official_groups: whether the official split is known to tear groups apart.
    """

    name: str
    title: str
    scan: Scan
    page: str
    options: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    unit: Literal["videos", "images"] = "videos"
    citation: str = ""
    official_groups: bool = False


def count_items(samples: Iterable[Sample]) -> Counter[str]:
    """Count what `Source.expected` counts: videos, or pictures that belong to none, by class."""
    items = {(_class(s), s.video_id or s.path.as_posix()) for s in samples}
    return Counter(name for name, _ in items)


def conclude(
    root: Path, samples: Sequence[Sample], notes: Sequence[str], options: ScanOptions
) -> ScanResult:
    """Carve a validation split if there is none, say what is odd, and make the manifest.

    Raises:
        ManifestError: there is no sample.
    """
    if not samples:
        raise ManifestError(f"no picture and no video found in {root}")
    told = list(notes)
    carved = carve_validation(samples, fraction=options.val_fraction, seed=options.seed)
    moved = sum(s.split == "val" for s in carved)
    if moved and not any(s.split == "val" for s in samples):
        told.append(f"no official validation split: {moved} samples carved from train by group")
    classes = {s.target for s in carved}
    if len(classes) == 1:
        told.append(f"only {'fake' if classes == {1} else 'real'} samples were found")
    shared = len(check_groups(carved))
    if shared:
        told.append(
            f"{shared} groups lie in more than one official split: the authors' own division "
            "shares sources; judge results on it with that in mind"
        )
    return ScanResult(Manifest(tuple(carved), root.absolute()), tuple(told))


def _class(sample: Sample) -> str:
    return sample.labels.generator or ("fake" if sample.labels.is_fake else "real")
