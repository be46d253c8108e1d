"""Exported files: a graph with its card, for one engine, used like weights.

An ``.onnx`` file holds everything. OpenVINO's ``.xml`` lies beside a ``.bin`` of the same name,
which it knows by its hash. Both are data: reading them runs no code of the file's author. What
PyTorch runs is a ``.safetensors`` file, see `mfclip.weights`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mfclip.card import Card, EngineName, Precision, read_card
from mfclip.engines.engine import PRECISIONS, ModelFacts
from mfclip.engines.graph import INPUT
from mfclip.engines.known_prompts import read_prompts
from mfclip.errors import WeightsError, require
from mfclip.runtime.openvino import openvino_core
from mfclip.runtime.provenance import hash_file
from mfclip.weights import read_text

EXPORT_FORMAT = "mfclip-export-1"

ENGINE_OF_SUFFIX: dict[str, EngineName] = {".onnx": "onnx", ".xml": "openvino"}
"""Ending of a file to the engine that runs it."""

NOTES = ("format", "precision", "facts", "card")
"""What stands in a file beside its graph."""

Shapes: TypeAlias = Mapping[str, Sequence[int | None]]
"""Name of an input or output to its sizes; None where any fits."""

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
    card: Card
    graph: Any


def is_exported(path: str | Path | None) -> bool:
    """Whether a name is that of an exported graph; weights in safetensors files are not."""
    return path is not None and Path(path).suffix.lower() in ENGINE_OF_SUFFIX


def write_exported(exported: Exported, path: Path) -> None:
    """Write a file; not yet whole-or-nothing, see `mfclip.evaluate.export`."""
    prompts = exported.facts.prompts
    facts = {
        "image_size": exported.facts.image_size,
        "patch_size": exported.facts.patch_size,
        "prompts": prompts and prompts.to_json(),
    }
    notes = {
        "format": EXPORT_FORMAT,
        "precision": exported.precision,
        "facts": json.dumps(facts),
        "card": json.dumps(exported.card.to_json()),
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
    engine = ENGINE_OF_SUFFIX[path.suffix.lower()]
    graph, notes, shapes = _read_onnx(path) if engine == "onnx" else _read_openvino(path)
    if notes.get("format") != EXPORT_FORMAT:
        message = (
            f"{path} was not exported by this version of mfclip: expected format {EXPORT_FORMAT!r}"
        )
        raise WeightsError(f"{message}, but got {notes.get('format')!r}; use mfclip export")
    try:
        facts = _facts_from_json(read_text(notes, "facts", path))
        precision = PRECISIONS[notes["precision"]]
        _check_facts(facts, shapes)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        message = f"{path} is damaged: its facts cannot be true ({error}); export it again"
        raise WeightsError(message) from error
    card = read_card(read_text(notes, "card", path), f"the card of {path}")
    if card.resize < facts.image_size:
        message = f"resize {card.resize} is smaller than the input, {facts.image_size}"
        raise WeightsError(f"the card of {path} is damaged: {message}; export it again")
    return Exported(engine, precision, facts, card, graph)


def _write_openvino(model: Any, notes: Mapping[str, str], path: Path) -> None:
    openvino = require("openvino", extra="export")
    for key, text in notes.items():
        model.set_rt_info(text, ["mfclip", key])
    openvino.save_model(model, path, compress_to_fp16=False)
    digest = hash_file(path.with_suffix(".bin"))
    text = path.read_text(encoding="utf-8").replace(_UNKNOWN_HASH, digest, 1)
    path.write_text(text, encoding="utf-8")


def _read_openvino(path: Path) -> tuple[Any, dict[str, str], Shapes]:
    core = openvino_core()
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsError(f"{path} needs {weights.name} beside it, which is missing; copy both")
    # the hash first: a weight file cut short makes the reader look beyond its end
    found = re.search(r'weights_sha256 value="([0-9a-f]{64})"', path.read_text("utf-8", "replace"))
    if found is None:
        raise WeightsError(f"{path} was not exported by mfclip; make one with: mfclip export")
    if found[1] != hash_file(weights):
        message = f"{weights} is damaged or belongs to another export than {path.name}"
        raise WeightsError(f"{message}; copy both files again")
    try:
        model = core.read_model(path)
        known = [key for key in NOTES if model.has_rt_info(["mfclip", key])]
        notes = {key: model.get_rt_info(["mfclip", key]).astype(str) for key in known}
        shapes = {
            name: [one.get_length() if one.is_static else None for one in port.partial_shape]
            for port in (*model.inputs, *model.outputs)
            for name in port.names
        }
    except (RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged: {_first_line(error)}; export it again") from error
    return model, notes, shapes


def _read_onnx(path: Path) -> tuple[bytes, dict[str, str], Shapes]:
    onnx = require("onnx", extra="export")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the parser's own class comes from protobuf, which is not ours
        message = f"{path} is damaged or not an ONNX file: {_first_line(error)}; export it again"
        raise WeightsError(message) from error
    notes = {entry.key: entry.value for entry in model.metadata_props}
    shapes = {
        port.name: [one.dim_value or None for one in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    return content, {key.removeprefix("mfclip."): text for key, text in notes.items()}, shapes


def _facts_from_json(entry: Mapping[str, Any]) -> ModelFacts:
    image_size, patch_size = entry["image_size"], entry["patch_size"]
    for size in (image_size, patch_size):
        if size is not None and (type(size) is not int or not 0 < size <= image_size):
            raise ValueError(f"image_size {image_size!r} and patch_size {patch_size!r}")
    return ModelFacts(image_size, patch_size, read_prompts(entry["prompts"]))


def _check_facts(facts: ModelFacts, shapes: Shapes) -> None:
    """Compare what stands beside a graph with the graph itself; what its file leaves open fits."""
    *_, height, width = shapes[INPUT]
    if {height, width} - {None, facts.image_size}:
        raise ValueError(f"image_size {facts.image_size}, but the graph takes {height} x {width}")
    *_, found = shapes.get("features", [None])
    if facts.prompts is not None and found not in {None, facts.prompts.features.shape[1]}:
        shape = tuple(facts.prompts.features.shape)
        raise ValueError(f"prompt features {shape}, but the graph gives {found} features")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "unreadable")
