"""Cells: the runs of a protocol, each trained once and tested on many, and the samples of each.

Source: the paper's tables; balanced tests on one real pool: its floors of 50.00 ACC. Nothing here
trains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mfclip.config import RunConfig, build_config
from mfclip.data.manifest import Manifest, Sample, relative_name
from mfclip.detectors import describe_name
from mfclip.errors import ConfigError, ManifestError
from mfclip.experiment.protocols import FAKE_LEVELS, Protocol, Row, Subset, merge, plain_name

TRAIN_SPLITS = ("train", "val")
"""Splits of a training manifest: one to learn from, one to choose checkpoint and threshold on."""

_Entry = TypeVar("_Entry", Row, Subset)


@dataclass(frozen=True, slots=True)
class Trial:
    """One test of a trained cell.

    Attributes:
        subset: the samples.
        perturbation: kind of damage; None for the clean pictures.
        level: 1 to 5; 0 for the clean pictures.
    """

    subset: Subset
    perturbation: str | None = None
    level: int = 0

    @property
    def name(self) -> str:
        """Heading in the tables, e.g. ``DDPM`` or ``GenFace, GB 3``."""
        damage = f", {self.perturbation} {self.level}" if self.perturbation else ""
        return self.subset.name + damage


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run and its tests.

    Attributes:
        protocol: name of the protocol.
        row: name of the row.
        overrides: dotted keys of `RunConfig` and their values.
        train: what it is trained on.
        seed: of training.
        tests: what it is tried on.
        test_splits: splits of the tests.
        balanced: whether tests hold as many real as fake.
        test_seed: of the draw of balanced tests.
    """

    protocol: str
    row: str
    overrides: Mapping[str, Any]
    train: Subset
    seed: int
    tests: tuple[Trial, ...]
    test_splits: tuple[str, ...]
    balanced: bool
    test_seed: int

    @property
    def label(self) -> str:
        """Name of the row for a reader; says where the detector is our reading of a description."""
        return describe_name(str(self.overrides.get("model.name", "")), self.row)

    @property
    def key(self) -> str:
        """Name that can be a folder's, unique in the protocol."""
        return "__".join(map(plain_name, (self.row, self.train.name, f"seed{self.seed}")))


def cells(
    protocol: Protocol,
    manifest: Manifest,
    *,
    rows: Collection[str] | None = None,
    trains: Collection[str] | None = None,
    tests: Collection[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """List the runs of a protocol: row by row, training set by training set, seed by seed.

    Args:
        protocol: what is run.
        manifest: holds every sample of it; several data sets are joined into one.
        rows: names of the rows to keep; None = all, also below.
        trains: names of the training sets to keep.
        tests: names of the test sets to keep.
        seeds: training seeds instead of the protocol's.

    Raises:
        ConfigError: a name that the protocol does not have.
        ManifestError: a generator, family, manipulation or real source that the manifest lacks in
            the splits it is needed in (the message lists what is there), or a file in two splits.
    """
    _check_once(manifest)
    kept_trains = _keep("train", protocol.train, trains)
    kept_tests = _keep("test", protocol.test, tests)
    found = [
        Cell(
            protocol=protocol.name,
            row=row.name,
            overrides=dict(_dotted(merge(protocol.overrides, row.overrides))),
            train=train,
            seed=seed,
            tests=tuple(_trials(protocol, train, kept_tests)),
            test_splits=protocol.test_splits,
            balanced=protocol.balanced,
            test_seed=protocol.test_seed,
        )
        for row in _keep("row", protocol.rows, rows)
        for train in kept_trains
        for seed in (protocol.seeds if seeds is None else seeds)
    ]
    for subset in kept_trains:
        for split in TRAIN_SPLITS:
            _select(manifest, subset, (split,), f"protocol '{protocol.name}', training set")
    for subset in {trial.subset.name: trial.subset for c in found for trial in c.tests}.values():
        _select(manifest, subset, protocol.test_splits, f"protocol '{protocol.name}', test set")
    return [cell for cell in found if cell.tests]


def train_manifest(manifest: Manifest, cell: Cell) -> Manifest:
    """Return what a cell trains on and validates on: splits ``train`` and ``val``.

    Raises:
        ManifestError: as in `cells`.
    """
    where = f"protocol '{cell.protocol}', training set"
    parts = [_select(manifest, cell.train, (split,), where) for split in TRAIN_SPLITS]
    return replace(manifest, samples=tuple(sample for part in parts for sample in part))


def trial_manifest(manifest: Manifest, cell: Cell, trial: Trial) -> Manifest:
    """Return one test set of a cell, before any perturbation.

    Balanced tests take as many real as fake faces, whole videos where there are any. Both are drawn
    in an order that depends on the test seed and the file alone, so every test of a protocol starts
    from the same real faces, and every cell sees the same test (paper: floors of 50.00 ACC).

    Raises:
        ManifestError: as in `cells`.
    """
    where = f"protocol '{cell.protocol}', test set"
    chosen = _select(manifest, trial.subset, cell.test_splits, where)
    if not cell.balanced:
        return chosen
    items: dict[bool, set[str]] = {True: set(), False: set()}
    for sample in chosen:
        items[sample.labels.is_fake].add(_item(sample, manifest.root))
    size = min(map(len, items.values()))
    kept = {
        is_fake: set(sorted(names, key=lambda name: _place(name, cell.test_seed))[:size])
        for is_fake, names in items.items()
    }
    return chosen.where(lambda s: _item(s, manifest.root) in kept[s.labels.is_fake])


def cell_config(cell: Cell, base: Mapping[str, Any] | None = None) -> RunConfig:
    """Return the settings of a cell's run.

    Args:
        cell: its overrides and its seed win over `base`.
        base: nested settings shared by all cells, e.g. a parsed TOML file. Of its ``model`` table a
            row that names another detector takes the image size alone: the rest are sizes of the
            model that the base names.

    Raises:
        ConfigError: unknown keys or wrong values in `base`.
    """
    base = base or {}
    own = build_config(base).model.name
    tree = merge(base, {"seed": cell.seed})
    if cell.overrides.get("model.name", own) != own:
        model = base.get("model", {})
        tree["model"] = {key: model[key] for key in ("image_size",) if key in model}
    for key, value in cell.overrides.items():
        tree = merge(tree, _nested(key, value))
    return build_config(tree)


def _select(manifest: Manifest, subset: Subset, splits: Sequence[str], where: str) -> Manifest:
    """Keep a subset of some splits; both classes and every name it lists must be there."""
    within = manifest.where(lambda sample: sample.split in splits)
    place = f"split {' or '.join(splits)}"
    for field in (*FAKE_LEVELS, "real"):
        _check_there(within, subset, field, where=f"{where} '{subset.name}'", place=place)
    chosen = within.where(subset.holds)
    for is_fake, word in ((True, "fake"), (False, "real")):
        if not any(sample.labels.is_fake == is_fake for sample in chosen):
            found = ", ".join(f"{name} ({n})" for name, n in sorted(within.counts().items()))
            raise ManifestError(
                f"{where} '{subset.name}': no {word} sample in {place}; there: {found or 'none'}"
            )
    return chosen


def _check_there(within: Manifest, subset: Subset, field: str, *, where: str, place: str) -> None:
    """Refuse a name in one field of a subset that no sample has."""
    is_fake = field != "real"
    column, kind = (field, field) if is_fake else ("generator", "real source")
    labels = [sample.labels for sample in within if sample.labels.is_fake == is_fake]
    there = {getattr(label, column) or "unknown" for label in labels}
    absent = [name for name in getattr(subset, field) if name not in there]
    if absent:
        raise ManifestError(
            f"{where}: no sample of {kind} {', '.join(absent)} in {place}; there: "
            f"{', '.join(sorted(there)) or 'none'}. Choose other sets of the protocol, or edit a "
            "copy of its TOML file"
        )


def _check_once(manifest: Manifest) -> None:
    """Refuse a file that lies in two splits, as it may where data sets are joined."""
    seen: dict[Path, str] = {}
    for sample in manifest:
        other = seen.setdefault(sample.path, sample.split)
        if other != sample.split:
            raise ManifestError(
                f"{sample.path} is in split '{other}' and in split '{sample.split}'; a file must "
                "not train and test; take it out of one of the joined manifests"
            )


def _trials(protocol: Protocol, train: Subset, tests: Sequence[Subset]) -> Iterator[Trial]:
    for subset in tests:
        if subset.name == train.name and not protocol.diagonal:
            continue
        yield Trial(subset)
        if protocol.perturbations:
            for kind in protocol.perturbations.kinds:
                for level in protocol.perturbations.levels:
                    yield Trial(subset, kind, level)


def _keep(kind: str, entries: Sequence[_Entry], names: Collection[str] | None) -> Sequence[_Entry]:
    """Keep the entries that are named."""
    if names is None:
        return entries
    known = [entry.name for entry in entries]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(
            f"expected each {kind} to be one of [{', '.join(known)}], but got {', '.join(unknown)}"
        )
    return [entry for entry in entries if entry.name in names]


def _item(sample: Sample, root: Path) -> str:
    """What is drawn as one: a video of one generator, or a picture by its relative path."""
    if sample.video_id is not None:
        return f"{sample.labels.generator}:{sample.video_id}"
    return relative_name(sample.path, root)


def _place(item: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{item}".encode()).hexdigest()


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _nested(key: str, value: object) -> dict[str, Any]:
    *parents, leaf = key.split(".")
    tree: dict[str, Any] = {leaf: value}
    for parent in reversed(parents):
        tree = {parent: tree}
    return tree
