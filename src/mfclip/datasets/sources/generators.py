"""The editable table folder name -> labels, for data sets that are trees of generator folders.

A TOML file::

    real = ["real", "FFHQ"]

    [generators.DDPM]
    manipulation = "entire_face_synthesis"
    family = "diffusion"
    folders = ["ddpm_samples"]      # other names of the folder, besides DDPM itself
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfclip.errors import ManifestError
from mfclip.labels import Labels

_KEYS = {"manipulation", "family", "folders"}


@dataclass(frozen=True, slots=True)
class GeneratorTable:
    """Labels by folder name; capitals, spaces and punctuation of the name do not matter."""

    labels: Mapping[str, Labels]

    def find(self, folder: str) -> Labels | None:
        """Return the labels of a folder, or None if the table does not name it."""
        return self.labels.get(_plain(folder))

    @property
    def names(self) -> list[str]:
        """The generators and real sources, as the manifest calls them."""
        return sorted({labels.generator or "" for labels in self.labels.values()})


def builtin_table(name: str) -> Path:
    """Path of a table that comes with mfclip; copy it to make your own."""
    return Path(__file__).with_name(f"{name}.toml")


def read_table(path: Path) -> GeneratorTable:
    """Read a table.

    Raises:
        ManifestError: it is absent, no TOML, has an unknown key, or an unknown manipulation.
    """
    if not path.is_file():
        raise ManifestError(f"no generator table at {path}; expected a TOML file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not TOML: {error}") from None
    labels = {_plain(name): Labels(False, generator=name) for name in content.get("real", [])}
    for name, entry in content.get("generators", {}).items():
        found = _entry_labels(name, entry, path)
        labels |= {_plain(folder): found for folder in (name, *entry.get("folders", []))}
    if not labels:
        raise ManifestError(f"{path}: expected 'real = [...]' and [generators.NAME] tables")
    return GeneratorTable(labels)


def _entry_labels(name: str, entry: Mapping[str, Any], path: Path) -> Labels:
    unknown = entry.keys() - _KEYS
    if unknown:
        raise ManifestError(
            f"{path}, [generators.{name}]: expected the keys {sorted(_KEYS)}, "
            f"but got {sorted(unknown)}"
        )
    try:
        return Labels(True, entry.get("manipulation"), entry.get("family"), name)
    except ManifestError as error:
        raise ManifestError(f"{path}, [generators.{name}]: {error}") from None


def _plain(folder: str) -> str:
    return "".join(letter for letter in folder.lower() if letter.isalnum())
