"""From the settings to what training and validation read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mfclip.config import RunConfig
from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import BatchPlan, StreamingLoader, TrainingLoader
from mfclip.data.manifest import Manifest, check_files, read_manifest
from mfclip.data.shards import ShardDataset
from mfclip.data.texts import read_texts
from mfclip.errors import ConfigError, ManifestError, TrainingError
from mfclip.train.log import RunLog
from mfclip.train.processes import Processes

SHUFFLED = 1000
"""Faces that each reader of shards holds back to draw from (0.15 MB each at 224 x 224)."""

UNREADABLE = "unreadable.jsonl"
"""File in a run's folder: a line for each picture that could not be read."""


def open_manifest(config: RunConfig) -> Manifest:
    """Read the manifest and check what training needs of it.

    Raises:
        ConfigError: none is given.
        ManifestError: it cannot be read, files of the training or validation split are absent, or
            one of the two lacks a class. With shards the training split's files are not needed.
    """
    data = config.data
    if data.manifest is None:
        raise ConfigError("no data: set data.manifest to a .csv, .jsonl or .parquet file")
    manifest = read_manifest(data.manifest, root=data.root)
    used = {data.train_split, data.val_split}
    on_disk = used if data.shards is None else {data.val_split}
    absent = check_files(manifest.where(lambda sample: sample.split in on_disk))
    if absent:
        listed = ", ".join(map(str, absent[:3]))
        raise ManifestError(
            f"{len(absent)} of the manifest's files are not on disk, the first: {listed}; "
            "set data.root to the folder that the paths start from"
        )
    for name in sorted(used):
        kinds = {sample.labels.is_fake for sample in manifest.split(name)}
        if len(kinds) == 1:
            only = "fake" if kinds.pop() else "real"
            if only == "real" and name == data.train_split and data.self_blend:
                continue  # the forgeries are made from them
            raise ManifestError(f"split '{name}' holds only {only} faces; it needs real and fake")
    return manifest


def training_data(
    config: RunConfig, samples: Manifest, processes: Processes
) -> TrainingLoader | StreamingLoader:
    """Load the training split from its files, or from shards if the settings name any.

    Raises:
        ConfigError: settings that do not fit together.
        ManifestError: the shards are absent, or were packed from another training split; or the
            texts cannot be read, or are of other faces.
    """
    if config.data.shards is not None:
        return _streamed(config, config.data.shards, samples, processes)
    data = config.data
    dataset = FaceDataset(
        samples,
        resize=data.resize,
        image_size=config.model.image_size,
        augment=data.augment,
        seed=config.seed,
        cache=data.cache,
        masks=data.masks,
        twins=data.twins,
        texts=None if data.texts is None else read_texts(data.texts),
    )
    if data.twins is not None and not data.twins.is_dir():
        raise ConfigError(
            f"data.twins: no folder {data.twins}; make it with mfclip data reconstruct"
        )
    plan = BatchPlan(
        samples, data.sampling, config.train.batch_size, config.seed, pairs=data.self_blend
    )
    return TrainingLoader(
        dataset,
        plan,
        rank=processes.rank,
        world_size=processes.world_size,
        workers=data.workers,
        device=processes.device,
    )


def validation_data(config: RunConfig, samples: Manifest, processes: Processes) -> FaceDataset:
    """Open this process's share of the validation split, always from its files."""
    share = samples.samples[processes.rank :: processes.world_size]
    return FaceDataset(
        replace(samples, samples=share),
        resize=config.data.resize,
        image_size=config.model.image_size,
        cache=config.data.cache,
    )


def _streamed(
    config: RunConfig, place: str, samples: Manifest, processes: Processes
) -> StreamingLoader:
    data = config.data
    if data.sampling != "shuffle" or data.self_blend or data.masks:
        raise ConfigError(
            "shards come as a stream, which can only be shuffled and holds no masks: set "
            "data.sampling=shuffle, data.self_blend=0, data.masks=false, or leave out data.shards"
        )
    if data.texts is not None:
        raise ConfigError("shards hold no texts; leave out data.texts or data.shards")
    dataset = ShardDataset(
        place,
        resize=data.resize,
        image_size=config.model.image_size,
        level=data.augment,
        shuffle=SHUFFLED,
        seed=config.seed,
        ranks=(processes.rank, processes.world_size),
    )
    if dataset.index.fingerprint != samples.fingerprint:
        raise ManifestError(
            f"the shards in {place} were not packed from split '{data.train_split}' of this "
            "manifest; pack them anew with 'mfclip data pack', or point "
            "data.manifest to the manifest beside them"
        )
    return StreamingLoader(
        dataset, config.train.batch_size, workers=data.workers, device=processes.device
    )


class UnreadableList:
    """The pictures of a run that could not be read: counted, listed in its folder, and limited.

    Args:
        out: the run's folder; `UNREADABLE` in it is added to.
        limit: pictures that are passed over; more end the run.
        processes: this process among those that train together.
    """

    def __init__(self, out: Path, limit: int, processes: Processes) -> None:
        self._path = out / UNREADABLE
        self._limit = limit
        self._processes = processes
        self._known: dict[str, str] = {}

    def begin(self, *, resume: bool) -> None:
        """Take up what an earlier part of the run has listed, or begin anew."""
        if resume and self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            self._known = {entry["path"]: entry["error"] for entry in map(json.loads, lines)}
        elif self._processes.is_first:
            self._path.unlink(missing_ok=True)

    def update(self, found: Mapping[str, str], log: RunLog) -> None:
        """List what any process has found since, and say how many there are.

        Args:
            found: path -> what is wrong with it; known ones are passed over.
            log: of the run.

        Raises:
            TrainingError: more than the limit.
        """
        fresh: dict[str, str] = {}
        own = {path: error for path, error in found.items() if path not in self._known}
        for part in self._processes.gather(own):
            fresh |= part
        if not fresh:
            return
        self._known |= fresh
        if self._processes.is_first:
            with self._path.open("a", encoding="utf-8") as file:
                for path, error in fresh.items():
                    file.write(json.dumps({"path": path, "error": error}) + "\n")
        count = f"{len(self._known)} pictures cannot be read, listed in {self._path}"
        if len(self._known) > self._limit:
            raise TrainingError(
                f"{count}; data.max_unreadable is {self._limit}: mend them, take them out of the "
                f"manifest, or raise it. The first: {next(iter(self._known.values()))}"
            )
        log.say(f"{count}; training takes others in their place, validation leaves them out")
