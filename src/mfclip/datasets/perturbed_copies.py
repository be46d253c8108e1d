"""A manifest's pictures, damaged and written: one folder and one manifest a kind and level."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mfclip.data.manifest import Manifest, Sample, inside_name
from mfclip.errors import ConfigError, InputError, ManifestError, require
from mfclip.media.images import read_image
from mfclip.media.perturbations import (
    PERTURBATIONS,
    check_level,
    find_perturbation,
    num_blocks,
    perturb,
    seed_of,
)
from mfclip.media.video import is_picture
from mfclip.runtime.parallel import Progress, map_parallel, silent
from mfclip.runtime.whole_file import partial_file, write_whole

FAILURES = "failures.csv"
"""Files that could not be read, with the reason; absent where there are none."""


@dataclass(frozen=True, slots=True)
class PerturbReport:
    """What was done.

    Attributes:
        manifests: (kind, level) -> its manifest.
        written: pictures written in this run.
        kept: pictures that an earlier run had written.
        failures: files left out, with the reason.
        without_blocks: files in which BW draws no square, since their short side is below 256.
    """

    manifests: dict[tuple[str, int], Path]
    written: int
    kept: int
    failures: dict[Path, str]
    without_blocks: int


@dataclass(frozen=True, slots=True)
class _Job:
    """One picture, one kind, all its levels."""

    source: Path
    name: str
    kind: str
    targets: tuple[tuple[int, Path], ...]
    scale_blocks: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    source: Path
    written: int = 0
    kept: int = 0
    failure: str = ""
    without_blocks: bool = False


def perturb_manifest(
    manifest: Manifest,
    out_dir: Path,
    kinds: Sequence[str],
    levels: Sequence[int],
    *,
    scale_blocks: bool = False,
    workers: int = 0,
    progress: Progress = silent,
) -> PerturbReport:
    """Write damaged copies as PNG, so that nothing but the damage is added.

    A cell lies in ``out_dir/KIND-LEVEL/`` with its ``manifest.csv``. What an earlier run wrote is
    kept; files that cannot be read are listed in ``out_dir/failures.csv`` and left out of every
    manifest. Each file's seed comes from its path below the manifest's folder (from the whole path
    where it lies elsewhere, so two machines agree only on files below the folder).

    Args:
        manifest: pictures to damage; labels, splits and groups are carried over.
        out_dir: folder that is made where needed.
        kinds: keys of `PERTURBATIONS` or `EXTRA_PERTURBATIONS`.
        levels: 1 to 5; 0 writes the clean pictures.
        scale_blocks: see `perturb`; the folder is then called ``BW-LEVEL-scaled``.
        workers: number of processes; 0 works in this one.
        progress: told the number of pictures done, each counted once a kind.

    Raises:
        ConfigError: no such kind or level, or none at all.
        ManifestError: not one picture could be read.
        MissingExtraError: VC is asked for and PyAV is not installed.
    """
    _check(kinds, levels)
    names = {sample.path: inside_name(sample.path, manifest.root) for sample in manifest}
    cells = {
        (kind, level): out_dir / _cell(kind, level, scale_blocks=scale_blocks)
        for kind in dict.fromkeys(kinds)
        for level in sorted(levels)
    }
    jobs = [
        _Job(source, name, kind, _targets(cells, kind, name), scale_blocks)
        for kind in dict.fromkeys(kinds)
        for source, name in names.items()
    ]
    outcomes = list(
        map_parallel(_run, jobs, workers=workers, stage="perturbing", progress=progress)
    )
    failures = {o.source: o.failure for o in outcomes if o.failure}
    _write_failures(out_dir / FAILURES, failures)
    good = manifest.where(lambda sample: sample.path not in failures)
    if not good.samples:
        hint = "" if any(map(is_picture, names)) else "; run 'mfclip data prepare' on videos first"
        message = f"none of the {len(manifest)} files could be read; see {out_dir / FAILURES}"
        raise ManifestError(message + hint)
    return PerturbReport(
        {cell: _write_manifest(good, folder, names) for cell, folder in cells.items()},
        written=sum(o.written for o in outcomes),
        kept=sum(o.kept for o in outcomes),
        failures=failures,
        without_blocks=sum(o.without_blocks for o in outcomes),
    )


def _check(kinds: Sequence[str], levels: Sequence[int]) -> None:
    """Find wrong arguments before the first of many hours, not after."""
    if not kinds or not levels:
        raise ConfigError(
            f"expected at least one kind and one level, but got {len(kinds)} and {len(levels)}"
        )
    for kind in kinds:
        find_perturbation(kind)
        if kind == "VC":
            require("av", extra="video")
    for level in levels:
        check_level(level)


def _cell(kind: str, level: int, *, scale_blocks: bool) -> str:
    return f"{kind}-{level}-scaled" if scale_blocks and kind == "BW" else f"{kind}-{level}"


def _targets(
    cells: dict[tuple[str, int], Path], kind: str, name: str
) -> tuple[tuple[int, Path], ...]:
    return tuple(
        (level, folder / _as_png(name)) for (of, level), folder in cells.items() if of == kind
    )


def _as_png(name: str) -> str:
    """Append the ending instead of replacing it: a.jpg and a.png are two pictures."""
    return name if name.endswith(".png") else f"{name}.png"


def _run(job: _Job) -> _Outcome:
    missing = [(level, target) for level, target in job.targets if not target.is_file()]
    kept = len(job.targets) - len(missing)
    if missing:
        try:
            image = read_image(job.source)
            _damage(image, job, missing)
        except InputError as error:
            return _Outcome(job.source, failure=str(error))
    blank = job.kind == "BW" and _draws_nothing(job)
    return _Outcome(job.source, len(missing), kept, without_blocks=blank)


def _damage(image: UInt8[np.ndarray, "h w 3"], job: _Job, missing: list[tuple[int, Path]]) -> None:
    seed = seed_of(job.name)
    for level, target in missing:
        damaged = perturb(image, job.kind, level, seed=seed, scale_blocks=job.scale_blocks)
        _write_png(damaged, target)


def _draws_nothing(job: _Job) -> bool:
    """Tell from the size of a written copy whether even the strongest level has no square."""
    level, target = job.targets[-1]
    with Image.open(target, formats=("PNG",)) as image:
        w, h = image.size
    value = int(PERTURBATIONS["BW"].values[level - 1])
    return level > 0 and num_blocks(h, w, value, scale_blocks=job.scale_blocks) == 0


def _write_png(image: UInt8[np.ndarray, "h w 3"], target: Path) -> None:
    """Write whole or not at all, so that a killed run leaves no half picture to be kept."""
    with partial_file(target, sync=False) as partial:
        Image.fromarray(image).save(partial, "PNG", compress_level=3)


def _write_manifest(manifest: Manifest, folder: Path, names: dict[Path, str]) -> Path:
    def moved(sample: Sample) -> Sample:
        return replace(sample, path=folder.absolute() / _as_png(names[sample.path]))

    path = folder / "manifest.csv"
    moved_rows = tuple(map(moved, manifest))
    replace(manifest, samples=moved_rows, root=folder.absolute()).write(path)
    return path


def _write_failures(path: Path, failures: dict[Path, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with write_whole(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows((source.as_posix(), reason) for source, reason in failures.items())
