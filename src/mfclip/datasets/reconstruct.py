"""A manifest's pictures reconstructed: aligned twins of the reals, and maps of what was lost.

In the output folder::

    reconstruction.json    what reconstructed; a second run must ask for the same
    originals/ab/*.png     the pictures as the reconstructor saw them
    twins/ab/*.png         their reconstructions, aligned to the pixel
    maps/ab/*.png          |original - reconstruction|, of every picture
    twins.csv              each real and its twin, a fake of the same group and split
    maps.csv               a map for each picture, with its labels, split and group
    failures.csv           what could not be read, and why

All pictures, real or fake, are compressed alike *before* they are reconstructed, and all that is
written is PNG: in DIRE's own code a map was written in its picture's format, which gave the label
away (its issues 11 and 41).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mfclip.data.manifest import Manifest, Sample
from mfclip.errors import ConfigError, InputError, ManifestError
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.reconstruction import (
    Reconstructor,
    dire_map,
    fit_autoencoder,
    recode,
    save_autoencoder,
    to_pixels,
)
from mfclip.runtime.parallel import Progress, silent
from mfclip.runtime.whole_file import write_whole

SETTINGS = "reconstruction.json"
PARTS = ("originals", "twins", "maps")
QUALITY = 90
"""JPEG quality in which every picture is compressed first."""

FIT_BATCH, FIT_SIDE = 16, 128
"""Pictures a step, and their side in pixels, when an autoencoder is trained."""


@dataclass(frozen=True, slots=True)
class ReconstructReport:
    """What came of it.

    Attributes:
        pictures: of the manifest.
        kept: those that an earlier run had finished.
        twins: manifest of the reals and their twins; None if there was no real.
        maps: manifest of the maps.
        failures: picture -> why it could not be read.
    """

    pictures: int
    kept: int
    twins: Path | None
    maps: Path
    failures: dict[Path, str]


@dataclass(frozen=True, slots=True)
class _Job:
    """One picture that is to be reconstructed."""

    key: str
    pixels: torch.Tensor


def reconstruct(
    manifest: Manifest,
    out: Path,
    reconstructor: Reconstructor,
    *,
    quality: int | None = QUALITY,
    batch_size: int = 16,
    progress: Progress = silent,
) -> ReconstructReport:
    """Reconstruct every picture of a manifest.

    What an earlier run finished is kept: a file's name is a hash of the picture's bytes and of what
    reconstructs it.

    Args:
        manifest: pictures; videos have to be prepared first.
        out: folder to write to.
        reconstructor: how.
        quality: of the JPEG compression that all pictures go through first; None leaves it out.
        batch_size: pictures reconstructed together, where neighbours have one size.
        progress: told the pictures done.

    Raises:
        ConfigError: `out` holds reconstructions that were made otherwise.
        ManifestError: not one picture could be read.
    """
    out = out.absolute()
    _keep_settings(out, {"reconstructor": reconstructor.name, "quality": quality})
    keys: dict[Path, str] = {}
    failures: dict[Path, str] = {}
    waiting: list[Path] = []
    for path in dict.fromkeys(sample.path for sample in manifest):
        try:
            digest = hashlib.sha256(path.read_bytes())
        except OSError as error:
            failures[path] = error.strerror or str(error)
            continue
        keys[path] = digest.hexdigest()[:20]
        if not all(_place(out, part, keys[path]).is_file() for part in PARTS):
            waiting.append(path)
    kept = len(keys) - len(waiting)
    done = len(keys) - len(waiting) + len(failures)
    total = len(keys) + len(failures)
    progress("reconstructing", done, total)
    jobs = _read(waiting, keys, reconstructor, quality, failures)
    for batch in _batches(jobs, batch_size):
        _write_batch(batch, reconstructor, out)
        done += len(batch)
        progress("reconstructing", done, total)
    for path in failures:
        keys.pop(path, None)
    _write_failures(out / "failures.csv", failures)
    if not keys:
        first, reason = next(iter(failures.items()))
        raise ManifestError(f"none of {total} pictures could be read; the first: {first}: {reason}")
    twins = _twins(manifest, keys, out, reconstructor)
    if twins.samples:
        twins.write(out / "twins.csv")
    maps = tuple(
        replace(sample, path=_place(out, "maps", keys[sample.path]))
        for sample in manifest
        if sample.path in keys
    )
    replace(manifest, samples=maps, root=out).write(out / "maps.csv")
    return ReconstructReport(
        pictures=total,
        kept=kept,
        twins=out / "twins.csv" if twins.samples else None,
        maps=out / "maps.csv",
        failures=failures,
    )


def fit_on_reals(
    manifest: Manifest, path: Path, *, epochs: int = 10, seed: int = 0, progress: Progress = silent
) -> Path:
    """Train a small autoencoder on the real faces of split ``train``, unless `path` is there.

    Args:
        manifest: holds the split.
        path: file of the weights.
        epochs: how often each face is seen.
        seed: of the first weights and of the order.
        progress: told the batches done.

    Raises:
        ConfigError: too few real faces.
        ManifestError: there is no split ``train``.
    """
    if path.is_file():
        return path
    reals = [sample.path for sample in manifest.split("train") if not sample.labels.is_fake]
    if len(reals) < FIT_BATCH:
        raise ConfigError(
            f"expected at least {FIT_BATCH} real faces in split 'train' to train an autoencoder "
            f"on, but got {len(reals)}; name weights of one instead"
        )
    rng = np.random.default_rng(seed)
    order = [reals[row] for _ in range(epochs) for row in rng.permutation(len(reals)).tolist()]

    def batches() -> Iterator[torch.Tensor]:
        batch: list[torch.Tensor] = []
        for done, picture in enumerate(order, start=1):
            try:
                image = Image.fromarray(read_image(picture))
            except InputError:
                continue  # named among the failures once all are reconstructed
            batch.append(_tensor(_square(image, FIT_SIDE)))
            if len(batch) == FIT_BATCH:
                yield torch.stack(batch)
                progress("training the autoencoder", done, len(order))
                batch = []

    save_autoencoder(fit_autoencoder(batches(), seed=seed), path)
    return path


def _keep_settings(out: Path, wanted: dict[str, object]) -> None:
    path = out / SETTINGS
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored != wanted:
            raise ConfigError(
                f"{out} holds reconstructions made otherwise ({stored}, and now {wanted}); name "
                "another folder"
            )
        return
    with write_whole(path) as file:
        json.dump(wanted, file)


def _read(
    paths: Iterable[Path],
    keys: dict[Path, str],
    reconstructor: Reconstructor,
    quality: int | None,
    failures: dict[Path, str],
) -> Iterator[_Job]:
    for path in paths:
        try:
            image = Image.fromarray(read_image(path))
        except InputError as error:
            failures[path] = str(error).removeprefix(f"{path}: ")
            continue
        if reconstructor.size is not None:
            image = _square(image, reconstructor.size)
        if quality is not None:
            image = recode(image, quality)
        yield _Job(keys[path], _tensor(image))


def _square(image: Image.Image, side: int) -> Image.Image:
    """Cut the centre square out and bring it to `side` pixels, bicubic, as DIRE does."""
    length = min(image.size)
    left, top = ((each - length) // 2 for each in image.size)
    square = image.crop((left, top, left + length, top + length))
    return square if length == side else square.resize((side, side), Image.Resampling.BICUBIC)


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def _batches(jobs: Iterable[_Job], size: int) -> Iterator[list[_Job]]:
    """Join neighbours of one shape."""
    batch: list[_Job] = []
    for job in jobs:
        if batch and (len(batch) == size or batch[0].pixels.shape != job.pixels.shape):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _write_batch(batch: list[_Job], reconstructor: Reconstructor, out: Path) -> None:
    images = torch.stack([job.pixels for job in batch])
    made = reconstructor.run(images).clamp(0, 1)
    written = (to_pixels(images), to_pixels(made), dire_map(images, made))
    for part, pictures in zip(PARTS, written, strict=True):
        for job, pixels in zip(batch, pictures, strict=True):
            _write_png(pixels, _place(out, part, job.key))


def _write_png(pixels: np.ndarray, path: Path) -> None:
    """Write whole or not at all, so that a killed run leaves no half picture to be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    Image.fromarray(pixels).save(partial, "PNG", compress_level=3)
    os.replace(partial, path)


def _place(out: Path, part: str, key: str) -> Path:
    return out / part / key[:2] / f"{key}.png"


def _twins(
    manifest: Manifest, keys: dict[Path, str], out: Path, reconstructor: Reconstructor
) -> Manifest:
    """Each real as the reconstructor saw it, and its twin beside it."""
    name = f"twin-{reconstructor.name}"
    fake = Labels(True, "entire_face_synthesis", reconstructor.family, name)
    samples: list[Sample] = []
    for sample in manifest:
        if sample.labels.is_fake or sample.path not in keys:
            continue
        key = keys[sample.path]
        samples += [
            replace(sample, path=_place(out, "originals", key)),
            replace(sample, path=_place(out, "twins", key), labels=fake),
        ]
    return replace(manifest, samples=tuple(samples), root=out)


def _write_failures(path: Path, failures: dict[Path, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with write_whole(path) as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows((source.as_posix(), reason) for source, reason in failures.items())
