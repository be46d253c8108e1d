"""From the settings to what training and validation read."""

from __future__ import annotations

from dataclasses import replace

from mfclip.config import RunConfig
from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import BatchPlan, StreamingLoader, TrainingLoader
from mfclip.data.manifest import Manifest, check_files, read_manifest
from mfclip.data.shards import ShardDataset
from mfclip.errors import ConfigError, ManifestError
from mfclip.train.processes import Processes

SHUFFLED = 1000
"""Faces that each reader of shards holds back to draw from (0.15 MB each at 224 x 224)."""


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
            raise ManifestError(f"split '{name}' holds only {only} faces; it needs real and fake")
    return manifest


def training_data(
    config: RunConfig, samples: Manifest, processes: Processes
) -> TrainingLoader | StreamingLoader:
    """Load the training split from its files, or from shards if the settings name any.

    Raises:
        ConfigError: settings that do not fit together.
        ManifestError: the shards are absent, or were packed from another training split.
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
    return StreamingLoader(dataset, config.train.batch_size, workers=data.workers)
