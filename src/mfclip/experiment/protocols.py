"""Protocols: what trains, what tests, and which settings a row of a table changes; as data.

A protocol is a TOML file in ``protocol_files`` (paper Tables I-IX, Fig. 7 and 8, and the same for
the development faces), or one of your own. `mfclip.experiment.cells` turns it into runs.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mfclip.config import Settings, build_config
from mfclip.data.manifest import Sample
from mfclip.detectors import describe_name
from mfclip.errors import ConfigError
from mfclip.media.perturbations import check_level, find_perturbation

FAKE_LEVELS = ("manipulation", "family", "generator")
"""Levels of `Labels` that a subset chooses fakes by; also its fields."""


class Subset(Settings):
    """Fakes chosen by their labels, and the real faces that stand against them."""

    name: str  # heading in the tables
    manipulation: tuple[str, ...] = ()  # level 2, any of them; empty = all
    family: tuple[str, ...] = ()  # level 3, likewise
    generator: tuple[str, ...] = ()  # level 4, likewise
    video: tuple[str, ...] = ()  # patterns of the fakes' video ids, e.g. */cdf/*; empty = all
    real: tuple[str, ...] = ()  # sources of the real faces; empty = all

    def holds(self, sample: Sample) -> bool:
        """Whether a sample belongs to it, whatever its split."""
        labels = sample.labels
        if not labels.is_fake:
            return not self.real or labels.generator in self.real
        chosen = ((getattr(self, level), getattr(labels, level)) for level in FAKE_LEVELS)
        if not all(not wanted or value in wanted for wanted, value in chosen):
            return False
        return not self.video or any(fnmatchcase(sample.video_id or "", p) for p in self.video)


class Row(Settings):
    """A row of a table: a detector, or a variant of one."""

    name: str  # heading in the tables; the paper's where `Protocol.table` is set
    overrides: dict[str, Any] = Field(default_factory=dict)  # nested keys of `RunConfig`


class Perturbations(Settings):
    """Damage under which every test set is repeated, besides the clean one."""

    kinds: tuple[str, ...]  # keys of `mfclip.media.perturbations.PERTURBATIONS`
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)  # 1 mild to 5 strong


class Protocol(Settings):
    """One table or figure: every row is trained on every training set and tried on the tests."""

    name: str
    title: str
    data: str  # the data set it is meant for, in words
    table: str | None = None  # the paper's table, for `paper_cell`
    models: tuple[str, ...] = ()  # rows out of ``protocol_models.toml``
    rows: tuple[Row, ...] = ()  # rows of its own
    overrides: dict[str, Any] = Field(default_factory=dict)  # for all rows; a row's own win
    train: tuple[Subset, ...]
    test: tuple[Subset, ...]
    test_splits: tuple[str, ...] = ("test",)  # of fakes and real faces, in all tests
    diagonal: bool = True  # also test on the set that trained (same name)
    balanced: bool = True  # as many real as fake in every test
    domains: bool = False  # the tests are data sets of their own: report Cross-AUC over them
    units: tuple[Literal["frame", "video"], ...] = ("frame",)  # what the figures are computed on
    seeds: tuple[int, ...] = (0,)  # of training
    test_seed: int = 0  # of the draw of the balanced tests; the same for all cells
    perturbations: Perturbations | None = None

    def label(self, row: str) -> str:
        """Name a row to a reader, and say where the detector is our reading of a description."""
        models = {each.name: each.overrides.get("model", {}) for each in self.rows}
        return describe_name(models.get(row, {}).get("name", ""), row)


def list_protocols() -> tuple[str, ...]:
    """Return the names of the protocols that come with mfclip."""
    folder = files("mfclip.experiment").joinpath("protocol_files")
    names = [entry.name for entry in folder.iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_protocol(name: str | Path) -> Protocol:
    """Read a protocol.

    Args:
        name: one of `list_protocols`, or the path of a TOML file of your own.

    Raises:
        ConfigError: no such protocol, not TOML, an unknown key or value, an unknown model, two
            entries of one name, or an override that the settings do not have.

    Example:
        >>> [subset.name for subset in load_protocol("table1_cross_forgery").train]
        ['EFS', 'AM', 'FS']
    """
    stem = Path(name).stem if str(name).endswith(".toml") else str(name)
    try:
        tree = tomllib.loads(_read(name))
        protocol = Protocol.model_validate({"name": stem, **tree})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"protocol {name} is not valid TOML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(map(_explain, error.errors()))
        raise ConfigError(f"protocol {name}: {problems}") from None
    protocol = protocol.model_copy(update={"rows": _all_rows(protocol)})
    _check(protocol)
    return protocol


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with changes; tables are joined, everything else is replaced."""
    out = deepcopy(dict(base))
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else deepcopy(value)
    return out


def plain_name(name: str) -> str:
    """Write a heading so that it can be part of a file's name.

    Example:
        >>> plain_name("NE + IE, w/o SPA")
        'NE_IE_w_o_SPA'
    """
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")


def _read(name: str | Path) -> str:
    """Text of a protocol's file: one of your own if it ends in .toml, else one of mfclip's."""
    if str(name).endswith(".toml"):
        if not Path(name).is_file():
            raise ConfigError(f"no protocol file at {name}")
        return Path(name).read_text(encoding="utf-8")
    known = list_protocols()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.3)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        choices = ", ".join(known)
        raise ConfigError(
            f"expected a protocol among [{choices}] or a .toml file, but got '{name}'{hint}"
        )
    place = files("mfclip.experiment").joinpath("protocol_files", f"{name}.toml")
    return place.read_text(encoding="utf-8")


@cache
def _models() -> Mapping[str, dict[str, Any]]:
    place = files("mfclip.experiment").joinpath("protocol_models.toml")
    return tomllib.loads(place.read_text(encoding="utf-8"))


def _all_rows(protocol: Protocol) -> tuple[Row, ...]:
    unknown = [name for name in protocol.models if name not in _models()]
    if unknown:
        raise ConfigError(
            f"protocol {protocol.name}: expected models among [{', '.join(_models())}], but got "
            f"{', '.join(unknown)}; write a row of your own with [[rows]]"
        )
    shared = (Row(name=name, overrides=_models()[name]) for name in protocol.models)
    return (*shared, *protocol.rows)


def _check(protocol: Protocol) -> None:
    parts = {
        "rows": [row.name for row in protocol.rows],
        "train": [subset.name for subset in protocol.train],
        "test": [subset.name for subset in protocol.test],
    }
    for kind, names in parts.items():
        _check_names(protocol.name, kind, names)
    for row in protocol.rows:
        try:
            build_config(merge(protocol.overrides, row.overrides))
        except ConfigError as error:
            raise ConfigError(f"protocol {protocol.name}, row '{row.name}': {error}") from None
    if protocol.perturbations:
        for kind in protocol.perturbations.kinds:
            find_perturbation(kind)
        for level in protocol.perturbations.levels:
            check_level(level)


def _check_names(protocol: str, kind: str, names: Sequence[str]) -> None:
    if not names:
        raise ConfigError(f"protocol {protocol}: expected at least one entry in {kind}")
    counts = Counter(map(plain_name, names))
    repeated = [name for name, count in counts.items() if count > 1 or not name]
    if repeated:
        raise ConfigError(
            f"protocol {protocol}: expected names in {kind} that differ in more than punctuation, "
            f"but got {', '.join(repeated)} more than once"
        )


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    return f"key '{key}': {problem['msg'].lower()}, but got {problem['input']!r}"
