"""A manifest's pictures reconstructed: twins of the reals, or maps of what was lost.

In the output folder::

    reconstruction.json    what reconstructed; a second run must ask for the same
    twins/**.png           reconstructions of the reals, where `data.twins` looks for them
    twins.csv              each real and its twin, a fake of the same group and split
    maps/**.png            |picture - reconstruction|, of every picture
    maps.csv               a map for each picture, with its labels, split and group
    failures.csv           what could not be read, and why

All that is written is PNG, whatever it was made of: in DIRE's own code a map was written in its
picture's format, which gave the label away (its issues 11 and 41). For maps all pictures are also
compressed alike before they are reconstructed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mfclip.data.manifest import FRAMING, Manifest, Sample, inside_name
from mfclip.errors import ConfigError, InputError, ManifestError
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.reconstructors import (
    Reconstructor,
    dire_map,
    fit_autoencoder,
    recode,
    save_autoencoder,
    to_pixels,
)
from mfclip.runtime.parallel import Progress, silent
from mfclip.runtime.whole_file import partial_file, sweep, write_whole

Product: TypeAlias = Literal["twins", "maps"]

SETTINGS = "reconstruction.json"
QUALITY = 90
"""JPEG quality in which every picture is compressed before its map is made."""

SOURCE = "source-sha256"
"""Text of a PNG: hash of the picture that it was made of, so that a changed one is made anew."""

FIT_BATCH, FIT_SIDE = 16, 128
"""Pictures a step, and their side in pixels, when an autoencoder is trained."""


@dataclass(frozen=True, slots=True)
class ReconstructReport:
    """What came of it.

    Attributes:
        pictures: that were to be reconstructed.
        kept: those that an earlier run had finished.
        manifest: of the twins and their reals, or of the maps.
        failures: picture -> why it could not be read.
    """

    pictures: int
    kept: int
    manifest: Path
    failures: dict[Path, str]


@dataclass(frozen=True, slots=True)
class _Job:
    """One picture that is to be reconstructed."""

    target: Path
    source_hash: str
    pixels: torch.Tensor


def reconstruct(
    manifest: Manifest,
    out: Path,
    reconstructor: Reconstructor,
    product: Product = "twins",
    *,
    quality: int | None = QUALITY,
    batch_size: int = 16,
    progress: Progress = silent,
) -> ReconstructReport:
    """Reconstruct the pictures of a manifest and write what is made of them.

    What an earlier run finished is kept, unless the picture has changed since.

    Args:
        manifest: pictures; videos have to be prepared first.
        out: folder to write to.
        reconstructor: how.
        product: ``twins`` reconstructs the reals; ``maps`` everything.
        quality: of the JPEG compression that all pictures go through before maps are made; None
            leaves it out. Twins are made of the pictures as they are.
        batch_size: pictures reconstructed together, where neighbours have one size.
        progress: told the pictures done.

    Raises:
        ConfigError: `out` holds reconstructions that were made otherwise.
        ManifestError: there is no real face to make a twin of, two pictures differ in their ending
            alone, or not one could be read.
    """
    out = out.absolute()
    chosen = manifest if product == "maps" else manifest.where(lambda s: not s.labels.is_fake)
    if not chosen.samples:
        raise ManifestError("twins are made of real faces, and the manifest holds none")
    quality = quality if product == "maps" else None
    sweep(out, recursive=True)
    _keep_settings(out, {"reconstructor": reconstructor.name, "quality": quality})
    targets = {s.path: _target(s.path, manifest.root, out / product) for s in chosen}
    _refuse_twofold(targets)
    failures: dict[Path, str] = {}
    waiting: list[tuple[Path, str]] = []
    for path, target in targets.items():
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            failures[path] = error.strerror or str(error)
            continue
        if _made_of(target) != digest:
            waiting.append((path, digest))
    done = len(targets) - len(waiting)
    kept = done - len(failures)
    progress("reconstructing", done, len(targets))
    jobs = _read(waiting, targets, reconstructor, quality, failures)
    for batch in _batches(jobs, batch_size):
        _write_batch(batch, reconstructor, product)
        done += len(batch)
        progress("reconstructing", done, len(targets))
    _write_failures(out / "failures.csv", failures)
    good = chosen.where(lambda sample: sample.path not in failures)
    if not good.samples:
        first, reason = next(iter(failures.items()))
        message = f"none of {len(targets)} pictures could be read; the first: {first}: {reason}"
        raise ManifestError(message)
    made = _map_rows if product == "maps" else _twin_rows
    rows = tuple(made(good, targets, reconstructor))
    path = out / f"{product}.csv"
    replace(manifest, samples=rows, root=out).write(path)
    return ReconstructReport(len(targets), kept, path, failures)


def output_names(manifest: Manifest, product: Product) -> Iterator[str]:
    """Names of all files that are written below the output folder."""
    yield from (SETTINGS, FRAMING, "failures.csv", f"{product}.csv")
    yield from (str(_target(s.path, manifest.root, Path(product))) for s in manifest)


def fit_on_reals(
    manifest: Manifest, path: Path, *, epochs: int = 10, seed: int = 0, progress: Progress = silent
) -> Path:
    """Train a small autoencoder on the real faces of split ``train``, unless `path` is there.

    Args:
        manifest: holds the split.
        path: file of the weights.
        epochs: how often each face is seen.
        seed: of the first weights and of the order.
        progress: told the faces seen.

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


def _target(path: Path, root: Path, folder: Path) -> Path:
    return (folder / inside_name(path, root)).with_suffix(".png")


def _refuse_twofold(targets: dict[Path, Path]) -> None:
    """Two pictures such as a.jpg and a.png would be written to one file."""
    counts = Counter(targets.values())
    twofold = [str(path) for path, target in targets.items() if counts[target] > 1]
    if twofold:
        raise ManifestError(
            f"{len(twofold)} pictures differ in their ending alone, e.g. {', '.join(twofold[:2])}; "
            "rename them"
        )


def _made_of(target: Path) -> str | None:
    """Hash of the picture that a file was made of; None if there is no such file."""
    try:
        with Image.open(target, formats=("PNG",)) as image:
            return str(image.info.get(SOURCE))
    except OSError:
        return None


def _read(
    waiting: Iterable[tuple[Path, str]],
    targets: dict[Path, Path],
    reconstructor: Reconstructor,
    quality: int | None,
    failures: dict[Path, str],
) -> Iterator[_Job]:
    for path, digest in waiting:
        try:
            image = Image.fromarray(read_image(path))
        except InputError as error:
            failures[path] = str(error).removeprefix(f"{path}: ")
            continue
        if reconstructor.size is not None:
            image = _square(image, reconstructor.size)
        if quality is not None:
            image = recode(image, quality)
        yield _Job(targets[path], digest, _tensor(image))


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


def _write_batch(batch: list[_Job], reconstructor: Reconstructor, product: Product) -> None:
    images = torch.stack([job.pixels for job in batch])
    made = reconstructor.run(images).clamp(0, 1)
    pictures = to_pixels(made) if product == "twins" else dire_map(images, made)
    for job, pixels in zip(batch, pictures, strict=True):
        notes = PngInfo()
        notes.add_text(SOURCE, job.source_hash)
        # whole or not at all, so that a killed run leaves no half image to be kept
        with partial_file(job.target, sync=False) as partial:
            Image.fromarray(pixels).save(partial, "PNG", compress_level=3, pnginfo=notes)


def _map_rows(
    good: Manifest,
    targets: dict[Path, Path],
    reconstructor: Reconstructor,  # noqa: ARG001 - the labels stay
) -> Iterator[Sample]:
    return (replace(sample, path=targets[sample.path]) for sample in good)


def _twin_rows(
    good: Manifest, targets: dict[Path, Path], reconstructor: Reconstructor
) -> Iterator[Sample]:
    """Each real, and its twin after it."""
    name = f"twin-{reconstructor.name}"
    labels = Labels(True, "attribute_manipulation", reconstructor.family, name)
    for sample in good:
        yield sample
        yield replace(sample, path=targets[sample.path], labels=labels)


def _write_failures(path: Path, failures: dict[Path, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with write_whole(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows((source.as_posix(), reason) for source, reason in failures.items())
