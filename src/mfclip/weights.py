"""Weight files: tensors, the settings they belong to, and a card, in one safetensors file.

Loading never executes code. A file is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mfclip.errors import WeightsError
from mfclip.runtime.whole_file import write_bytes

FORMAT = "mfclip-1"

BEST = "best.safetensors"
"""Name of a run's best weights in its folder."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        tensors: parameters and buffers by name.
        settings: the ``model`` table of the configuration they belong to.
        card: what they were trained on, thresholds, figures, licence, limits.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    card: dict[str, Any] = field(default_factory=dict)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OSError: the disk is full or the folder not writable; an older file stays as it was.
    """
    from safetensors.torch import save  # noqa: PLC0415 - keeps the import of mfclip light

    whole = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
    write_bytes(path, save(whole, dict(metadata)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and its metadata.

    Raises:
        WeightsError: no such file, or it is cut short or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not path.is_file():
        raise WeightsError(f"no weights at {path}; expected a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        message = f"{path} is damaged or not a safetensors file ({error}); fetch or train it again"
        raise WeightsError(message) from error


def write_weights(weights: WeightFile, path: Path) -> None:
    """Write tensors, settings and card."""
    metadata = {
        "format": FORMAT,
        "settings": json.dumps(weights.settings),
        "card": json.dumps(weights.card),
    }
    write_tensors(weights.tensors, path, metadata)


def read_weights(path: Path) -> WeightFile:
    """Read tensors, settings and card.

    Raises:
        WeightsError: the file is absent, damaged, or was not written by mfclip.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        message = f"{path} was not written by mfclip: expected format {FORMAT!r}, but got "
        raise WeightsError(message + repr(metadata.get("format")))
    try:
        return WeightFile(tensors, json.loads(metadata["settings"]), json.loads(metadata["card"]))
    except (KeyError, json.JSONDecodeError) as error:
        message = f"{path} is damaged: its settings or card cannot be read; fetch or train it again"
        raise WeightsError(message) from error
