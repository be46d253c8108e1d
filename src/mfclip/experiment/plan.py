"""What an experiment runs: the cells of a protocol, and the rows that this version cannot run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfclip.config import RunConfig, build_config
from mfclip.data.manifest import Manifest, check_files, read_manifest, settle_framing
from mfclip.detectors import DETECTORS, describe_name
from mfclip.errors import ConfigError, ManifestError, require
from mfclip.experiment.cells import Cell, cell_config, cells, trial_manifest
from mfclip.experiment.protocols import Protocol, merge

OWN_DATA = ("manifest", "root", "shards")
"""Settings of ``data`` that `Experiment` fills in itself."""

SPLITS = {"train_split": "train", "val_split": "val", "test_split": "test"}
"""Splits that the cells' manifests have."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is not run.

    Attributes:
        row: its name.
        reason: why, in words.
    """

    row: str
    reason: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """A protocol on somebody's data, with the settings that all cells share.

    Attributes:
        protocol: what is asked.
        manifest: every sample of it.
        base: nested settings that all cells start from; without the data's place.
        cells: what is run, in this order.
        skipped: rows that this version cannot run.
        tests: names of the test sets that were chosen; None = all.
    """

    protocol: Protocol
    manifest: Manifest
    base: Mapping[str, Any]
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    tests: tuple[str, ...] | None = None

    def config(self, cell: Cell, manifest: Path | None = None) -> RunConfig:
        """Return a cell's settings.

        Args:
            cell: one of `cells`.
            manifest: file of its training manifest, whose paths start from this manifest's root.
        """
        config = cell_config(cell, self.base)
        place = {"manifest": manifest, "root": self.manifest.root}
        return config.model_copy(update={"data": config.data.model_copy(update=place)})


def plan_experiment(
    protocol: Protocol,
    manifest: Manifest,
    base: Mapping[str, Any] | None = None,
    *,
    rows: Collection[str] | None = None,
    trains: Collection[str] | None = None,
    tests: Collection[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Experiment:
    """Choose the cells of an experiment and check that they can be run.

    Args:
        protocol: what is asked.
        manifest: holds every sample of it.
        base: nested settings shared by all cells, e.g. a parsed TOML file; MFCLIP's size is in it.
        rows: names of the rows to run; None = all, also below.
        trains: names of the training sets.
        tests: names of the test sets.
        seeds: training seeds instead of the protocol's.

    Raises:
        ConfigError: a name that the protocol does not have, or settings that cannot be.
        ManifestError: the manifest lacks something that the protocol needs, or the disk a picture.
        MissingExtraError: a kind of damage needs a package that is not installed.
    """
    base = _own_base(base or {})
    settle_framing(build_config(base).data, manifest)  # before hours of training, not after
    found = cells(protocol, manifest, rows=rows, trains=trains, tests=tests, seeds=seeds)
    reasons = {cell.row: skip_reason(cell_config(cell, base)) for cell in found}
    chosen = tuple(cell for cell in found if reasons[cell.row] is None)
    skipped = tuple(Skipped(row, reason) for row, reason in reasons.items() if reason)
    _check_damage(protocol)
    _check_tests(manifest, chosen)
    kept = None if tests is None else tuple(sorted(tests))
    return Experiment(protocol, manifest, base, chosen, skipped, kept)


def skip_reason(config: RunConfig) -> str | None:
    """Say why a row cannot be run by this version of mfclip; None if it can."""
    name = config.model.name
    if name not in DETECTORS:
        known = ", ".join(map(describe_name, DETECTORS))
        return f"this version of mfclip has no detector '{name}'; it has {known}"
    if DETECTORS[name].judges_maps:
        return f"'{name}' judges maps that are computed from faces, and this manifest holds faces"
    return None


def row_config(protocol: Protocol, row: str, base: Mapping[str, Any]) -> RunConfig:
    """Return the settings of a row without its seed.

    Args:
        protocol: holds the row.
        row: its name.
        base: as in `plan_experiment`.
    """
    own = next(each.overrides for each in protocol.rows if each.name == row)
    return build_config(merge(merge(base, protocol.overrides), own))


def refuse_ineffective(experiment: Experiment, keys: Collection[str]) -> None:
    """Refuse changes of settings that the protocol fixes, since they would do nothing.

    Args:
        experiment: what is run.
        keys: dotted names of the settings that the user changes on the command line.

    Raises:
        ConfigError: which row sets it, and to what.
    """
    for cell in experiment.cells:
        for key in keys:
            if key in cell.overrides:
                raise ConfigError(
                    f"protocol '{cell.protocol}' itself sets {key} = {cell.overrides[key]!r} in "
                    f"row '{cell.row}', so --set {key} would do nothing; edit a copy of its TOML"
                )


def join_manifests(paths: Sequence[Path], *, root: Path | None = None) -> Manifest:
    """Read manifests and join their samples, as Table V needs.

    Args:
        paths: one or more manifests.
        root: folder that their relative paths start from; each manifest's own if omitted.

    Raises:
        ManifestError: none is given, one cannot be read, or their faces were not cut alike.
    """
    if not paths:
        raise ManifestError("expected at least one manifest, but got none")
    parts = [read_manifest(path, root=root) for path in paths]
    framings = {part.framing: path for part, path in zip(parts, paths, strict=True)}
    framings.pop(None, None)
    if len(framings) > 1:
        listed = "; ".join(f"{path}: {framing}" for framing, path in framings.items())
        raise ManifestError(
            f"the faces of the manifests were not cut alike ({listed}); prepare them anew with one "
            "--margin"
        )
    framing = next(iter(framings), None)
    samples = tuple(sample for part in parts for sample in part)
    return Manifest(samples, parts[0].root, framing)


def _own_base(base: Mapping[str, Any]) -> dict[str, Any]:
    """Check the shared settings and leave out where the data lies."""
    config = build_config(base)
    for key, value in SPLITS.items():
        if getattr(config.data, key) != value:
            raise ConfigError(f"the protocol says what trains and tests; leave out data.{key}")
    if not config.model.name.startswith("mfclip"):
        raise ConfigError(
            f"expected the shared settings to size MFCLIP (model.name mfclip or mfclip-small), but "
            f"got '{config.model.name}'; choose other detectors by the protocol's rows"
        )
    data = {key: value for key, value in base.get("data", {}).items() if key not in OWN_DATA}
    return {**base, "data": data}


def _check_damage(protocol: Protocol) -> None:
    """Find out now, not after hours of training, that pictures cannot be damaged."""
    if protocol.perturbations and "VC" in protocol.perturbations.kinds:
        require("av", extra="video")


def _check_tests(manifest: Manifest, found: Sequence[Cell]) -> None:
    """Refuse tests whose pictures are not on disk, before anything trains."""
    trials = {trial.subset.name: (cell, trial) for cell in found for trial in cell.tests}
    for cell, trial in trials.values():
        absent = check_files(trial_manifest(manifest, cell, trial))
        if absent:
            listed = ", ".join(map(str, absent[:3]))
            raise ManifestError(
                f"{len(absent)} pictures of the test '{trial.subset.name}' are not on disk, the "
                f"first: {listed}; paths start from the manifest's folder"
            )
