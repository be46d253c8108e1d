"""A manifest as WebDataset tar files, and those files as a streaming data set.

A shard holds for every sample ``00000012.json`` (labels, split, group, path, row) and
``00000012.png`` (the picture's file, byte for byte), so that it can be read in one go from a disk
or an object store; the package ``webdataset`` reads it too. ``shards.json`` lists the shards.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mfclip.data.dataset import FaceItem, Unreadable
from mfclip.data.manifest import Manifest, Sample, relative_name
from mfclip.errors import ConfigError, InputError, ManifestError, require
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.transforms import (
    AugmentLevel,
    Pixels,
    augment,
    check_level,
    check_sizes,
)
from mfclip.runtime.whole_file import partial_file, write_bytes

INDEX = "shards.json"

Opener = Callable[[str], BinaryIO]
"""Opens a shard or the index by its place, e.g. ``fsspec``'s for object storage."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """What `write_shards` wrote.

    Attributes:
        names: file names of the shards.
        counts: samples in each.
        fingerprint: of the manifest.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    fingerprint: str


def write_shards(
    manifest: Manifest, out: Path, *, samples_per_shard: int = 1000, seed: int = 0
) -> ShardIndex:
    """Pack the pictures of a manifest into tar files.

    Samples are shuffled first, since a stream can only be shuffled within a buffer; the same
    manifest and seed give the same bytes. Each file is written whole or not at all, the index last.

    Args:
        manifest: usually one split.
        out: folder for ``000000.tar``, ... and `INDEX`.
        samples_per_shard: at most so many a file; 1000 crops of 256 pixels are about 100 MB.
        seed: of the order.

    Raises:
        ManifestError: a picture is absent.
        ConfigError: `samples_per_shard` is below 1.
    """
    if samples_per_shard < 1:
        raise ConfigError(f"expected samples_per_shard of at least 1, but got {samples_per_shard}")
    out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(manifest)).tolist()
    names: list[str] = []
    counts: list[int] = []
    for start in range(0, len(order), samples_per_shard):
        rows = order[start : start + samples_per_shard]
        names.append(f"{len(names):06d}.tar")
        counts.append(len(rows))
        _write_tar(out / names[-1], manifest, rows)
    index = ShardIndex(tuple(names), tuple(counts), manifest.fingerprint)
    content = {"names": names, "counts": counts, "fingerprint": index.fingerprint}
    write_bytes(out / INDEX, json.dumps(content, indent=1).encode())
    return index


class ShardDataset(IterableDataset[FaceItem]):
    """Stream faces out of shards; each is the same as `FaceDataset` gives for its row and epoch.

    Shards are dealt out anew every epoch to all readers, that is to the loader's workers on every
    rank. In training each reader stops after as many faces as the shortest has, so that ranks stay
    in step; what one epoch leaves out, another has.

    Args:
        place: folder or address that holds `INDEX`.
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the items.
        level: augmentation: ``none``, ``light``, ``strong`` or ``perturb``.
        shuffle: faces held back to be drawn at random; 0 keeps the order and leaves nothing out.
        seed: of order and augmentation.
        ranks: number of this process and of all processes.
        opener: how `place` is read; by default from the disk, and an address such as
            ``s3://bucket/faces`` with the package ``fsspec``.

    Raises:
        ManifestError: there is no index, or it is damaged.
        ConfigError: sizes or level are impossible.
    """

    def __init__(
        self,
        place: str | Path,
        *,
        resize: int,
        image_size: int,
        level: AugmentLevel = "none",
        shuffle: int = 0,
        seed: int = 0,
        ranks: tuple[int, int] = (0, 1),
        opener: Opener | None = None,
    ) -> None:
        check_sizes(resize, image_size)
        check_level(level)
        self.place = str(place).rstrip("/")
        self.resize, self.image_size, self.level = resize, image_size, level
        self.shuffle, self.seed, self.ranks = shuffle, seed, ranks
        self._open = opener or open_place
        self.index = read_index(self.place, self._open)
        # in shared memory: workers that live on across epochs see a new value too
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next pass."""
        self._epoch.fill_(epoch)

    def fewest(self, readers: int) -> int:
        """Count the faces that each of so many readers has in every epoch of training."""
        return sum(sorted(self.index.counts)[: len(self.index.counts) // readers])

    def __iter__(self) -> Iterator[FaceItem]:
        epoch = int(self._epoch)
        reader, readers = self._place_among_readers()
        dealt = self._deal(epoch, readers)
        faces = self._read(dealt[reader], epoch)
        if not self.shuffle:
            return faces
        counts = [sum(self.index.counts[shard] for shard in hand) for hand in dealt]
        rng = np.random.default_rng((self.seed, epoch, reader))
        return islice(_shuffled(faces, self.shuffle, rng), min(counts))

    def _place_among_readers(self) -> tuple[int, int]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rank, world = self.ranks
        readers = workers * world
        if self.shuffle and readers > len(self.index.names):
            message = (
                f"{readers} readers ({workers} workers on {world} ranks) cannot share "
                f"{len(self.index.names)} shards; write smaller shards or use fewer workers"
            )
            raise ConfigError(message)
        return rank * workers + number, readers

    def _deal(self, epoch: int, readers: int) -> list[list[int]]:
        order = list(range(len(self.index.names)))
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order).tolist()
        return [order[reader::readers] for reader in range(readers)]

    def _read(self, shards: list[int], epoch: int) -> Iterator[FaceItem]:
        for shard in shards:
            yield from self._read_shard(f"{self.place}/{self.index.names[shard]}", epoch)

    def _read_shard(self, name: str, epoch: int) -> Iterator[FaceItem]:
        """Read a shard; a face that cannot be read is replaced by one beside it.

        As many come as the index counts, since readers that train together stay in step.
        """
        last: FaceItem | None = None
        unreadable: list[Unreadable] = []
        for record, content in read_tar(name, self._open):
            row = int(record["index"])
            try:
                pixels = read_image(content)
            except InputError as error:
                path = Path(f"{record['path']} in {name}")
                unreadable.append(Unreadable(row, path, f"{path}: {error}"))
            else:
                last = FaceItem(self._augment(pixels, epoch, row), _labels(record), row)
                yield last
            while last is not None and unreadable:
                yield replace(last, instead_of=unreadable.pop(0))
        if unreadable:
            raise InputError(f"{unreadable[0].message}; no picture of this shard can be read")

    def _augment(self, pixels: Pixels, epoch: int, row: int) -> Pixels:
        return augment(
            pixels,
            resize=self.resize,
            image_size=self.image_size,
            level=self.level,
            rng=np.random.default_rng((self.seed, epoch, row)),
        )


def _shuffled(faces: Iterator[FaceItem], size: int, rng: np.random.Generator) -> Iterator[FaceItem]:
    """Draw from a buffer that is filled up again after every draw."""
    held = list(islice(faces, size))
    for face in faces:
        place = int(rng.integers(len(held)))
        yield held[place]
        held[place] = face
    yield from (held[place] for place in rng.permutation(len(held)))


def _write_tar(path: Path, manifest: Manifest, rows: list[int]) -> None:
    with (
        partial_file(path) as partial,
        tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for row in rows:
            sample = manifest[row]
            try:
                content = sample.path.read_bytes()
            except OSError as error:
                message = f"row {row + 1}: cannot read {sample.path} ({error.strerror or error})"
                raise ManifestError(message) from None
            record = json.dumps(_record(sample, row, manifest.root)).encode()
            _add(tar, f"{row:08d}.json", record)
            _add(tar, f"{row:08d}{sample.path.suffix.lower()}", content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # no date and no owner: the same input gives the same bytes
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _record(sample: Sample, row: int, root: Path) -> dict[str, Any]:
    labels = sample.labels
    return {
        "index": row,
        "path": relative_name(sample.path, root),
        "label": "fake" if labels.is_fake else "real",
        "manipulation": labels.manipulation,
        "family": labels.family,
        "generator": labels.generator,
        "split": sample.split,
        "group": sample.group,
        "video_id": sample.video_id,
    }


def _labels(record: dict[str, Any]) -> Labels:
    is_fake = record["label"] == "fake"
    return Labels(is_fake, record["manipulation"], record["family"], record["generator"])


def read_tar(name: str, opener: Opener) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield pairs of record and picture in the order of the file, read without seeking.

    Raises:
        ManifestError: the shard is absent or damaged.
    """
    try:
        with opener(name) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            record: dict[str, Any] = {}
            for entry in tar:
                content = tar.extractfile(entry)
                if content is None:
                    continue
                if entry.name.endswith(".json"):
                    record = json.loads(content.read())
                else:
                    yield record, content.read()
    except (OSError, tarfile.TarError) as error:
        raise ManifestError(f"{name}: the shard is absent or damaged ({error})") from None


def read_index(place: str, opener: Opener) -> ShardIndex:
    """Read the list of shards in a folder.

    Raises:
        ManifestError: there is none, or it is damaged.
    """
    try:
        with opener(f"{place}/{INDEX}") as file:
            content = json.loads(file.read())
        return ShardIndex(
            tuple(content["names"]), tuple(content["counts"]), str(content["fingerprint"])
        )
    except (OSError, ValueError, KeyError) as error:
        message = f"{place} holds no readable {INDEX} ({error}); make it with 'mfclip data pack'"
        raise ManifestError(message) from None


def open_place(place: str) -> Any:  # fsspec's files are no BinaryIO: they lack `mode` or `name`
    """Open a file of this disk, or of an object store by its address."""
    if "://" not in place:
        return open(place, "rb")
    return require("fsspec", extra="train").open(place, "rb").open()
