"""Exported files: a graph with its card, for one engine, used like weights.

An ``.onnx`` file holds everything. OpenVINO's ``.xml`` lies beside a ``.bin`` of the same name,
which it knows by its hash. Both are data: reading them runs no code of the file's author. What
PyTorch runs is a ``.safetensors`` file, see `mfclip.weights`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfclip.engines.engine import EngineName, ModelFacts, Precision
from mfclip.engines.known_prompts import read_prompts
from mfclip.engines.openvino_engine import openvino_core
from mfclip.errors import WeightsError, require

FORMAT = "mfclip-export-1"

ENGINES: dict[str, EngineName] = {".onnx": "onnx", ".xml": "openvino"}
"""Ending of a file to the engine that runs it."""

NOTES = ("format", "precision", "facts", "card")
"""What stands in a file beside its graph."""

_UNKNOWN_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exported file holds.

    Attributes:
        engine: what runs it.
        precision: of the arithmetic inside.
        facts: of the model.
        card: of the weights; ``export`` says what was measured at export.
        graph: an ONNX file's bytes, or an OpenVINO model.
    """

    engine: EngineName
    precision: Precision
    facts: ModelFacts
    card: dict[str, Any]
    graph: Any


def is_exported(path: str | Path | None) -> bool:
    """Whether a name is that of an exported graph; weights in safetensors files are not."""
    return path is not None and Path(path).suffix.lower() in ENGINES


def write_exported(exported: Exported, path: Path) -> None:
    """Write a file; not yet whole-or-nothing, see `mfclip.evaluate.export`."""
    notes = {
        "format": FORMAT,
        "precision": exported.precision,
        "facts": json.dumps(_facts_to_json(exported.facts)),
        "card": json.dumps(exported.card),
    }
    if exported.engine == "onnx":
        onnx = require("onnx", extra="export")
        model = onnx.load_model_from_string(exported.graph)
        onnx.helper.set_model_props(model, {f"mfclip.{key}": text for key, text in notes.items()})
        path.write_bytes(model.SerializeToString())
    else:
        _write_openvino(exported.graph, {**notes, "weights_sha256": _UNKNOWN_HASH}, path)


def read_exported(path: Path) -> Exported:
    """Read an exported file.

    Raises:
        MissingExtraError: the engine's package is not installed.
        WeightsError: the file is absent, damaged, or was not exported by mfclip.
    """
    if not path.is_file():
        raise WeightsError(f"no exported file at {path}; make one with: mfclip export")
    engine = ENGINES[path.suffix.lower()]
    graph, notes = _read_onnx(path) if engine == "onnx" else _read_openvino(path)
    if notes.get("format") != FORMAT:
        message = f"{path} was not exported by this version of mfclip: expected format {FORMAT!r}"
        raise WeightsError(f"{message}, but got {notes.get('format')!r}; use mfclip export")
    try:
        facts, card = _facts_from_json(json.loads(notes["facts"])), json.loads(notes["card"])
        precision: Any = notes["precision"]
    except (KeyError, ValueError, TypeError) as error:
        message = f"{path} is damaged: its card cannot be read ({error}); export it again"
        raise WeightsError(message) from error
    return Exported(engine, precision, facts, card, graph)


def _write_openvino(model: Any, notes: Mapping[str, str], path: Path) -> None:
    openvino = require("openvino", extra="export")
    for key, text in notes.items():
        model.set_rt_info(text, ["mfclip", key])
    openvino.save_model(model, path, compress_to_fp16=False)
    digest = hash_weights(path.with_suffix(".bin"))
    text = path.read_text(encoding="utf-8").replace(_UNKNOWN_HASH, digest, 1)
    path.write_text(text, encoding="utf-8")


def _read_openvino(path: Path) -> tuple[Any, dict[str, str]]:
    core = openvino_core()
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsError(f"{path} needs {weights.name} beside it, which is missing; copy both")
    # the hash first: a weight file cut short makes the reader look beyond its end
    found = re.search(r'weights_sha256 value="([0-9a-f]{64})"', path.read_text("utf-8", "replace"))
    if found is None:
        raise WeightsError(f"{path} was not exported by mfclip; make one with: mfclip export")
    if found[1] != hash_weights(weights):
        message = f"{weights} is damaged or belongs to another export than {path.name}"
        raise WeightsError(f"{message}; copy both files again")
    try:
        model = core.read_model(path)
        known = [key for key in NOTES if model.has_rt_info(["mfclip", key])]
        return model, {key: model.get_rt_info(["mfclip", key]).astype(str) for key in known}
    except (RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged: {_first_line(error)}; export it again") from error


def _read_onnx(path: Path) -> tuple[bytes, dict[str, str]]:
    onnx = require("onnx", extra="export")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the parser's own class comes from protobuf, which is not ours
        message = f"{path} is damaged or not an ONNX file: {_first_line(error)}; export it again"
        raise WeightsError(message) from error
    notes = {entry.key: entry.value for entry in model.metadata_props}
    return content, {key.removeprefix("mfclip."): value for key, value in notes.items()}


def hash_weights(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts_to_json(facts: ModelFacts) -> dict[str, Any]:
    prompts = facts.prompts and facts.prompts.to_json()
    return {"image_size": facts.image_size, "patch_size": facts.patch_size, "prompts": prompts}


def _facts_from_json(entry: Mapping[str, Any]) -> ModelFacts:
    prompts = read_prompts(entry["prompts"])
    return ModelFacts(int(entry["image_size"]), entry["patch_size"], prompts)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "unreadable")
