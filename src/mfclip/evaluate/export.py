"""Weights to a file that one engine runs, checked before anyone gets to see it.

Every export is compared with PyTorch in fp32 on faces and noise. One that computes in less than
fp32 is also measured on a test split: what it changes stands in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mfclip.card import Card, Change, EngineName, Export, Parity, Precision
from mfclip.config import build_config
from mfclip.data.manifest import Manifest
from mfclip.detectors import find_weights, load_detector, save_detector
from mfclip.engines.convert import to_onnx
from mfclip.engines.exported import Exported, is_exported, write_exported
from mfclip.engines.graph import VisionGraph
from mfclip.engines.load import check_precision, choose_engine, load_engine
from mfclip.engines.quantise import quantise
from mfclip.errors import ConfigError, WeightsError, require
from mfclip.evaluate.agreement import measure_change, measure_parity
from mfclip.runtime.openvino import openvino_core
from mfclip.runtime.whole_file import scratch_folder
from mfclip.weights import read_weights

MAX_DIFFERENCE = 1e-4
"""Largest difference of a score that an export in fp32 may make."""

MAX_AUC_CHANGE: Mapping[Precision, float] = {"fp32": 0.001, "bf16": 0.001, "int8": 0.005}
"""Largest change of the AUC on the test split, up or down, with which a file is left."""

SUFFIXES: Mapping[EngineName, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".safetensors"}
"""What the files of each engine end in."""

PACKAGES: Mapping[EngineName, tuple[str, ...]] = {
    "torch": ("torch",),
    "onnx": ("torch", "onnx", "onnxruntime"),
    "openvino": ("torch", "onnx", "openvino", "nncf"),
}
"""Whose versions stand in the card."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export made and how it compares with PyTorch in fp32.

    Attributes:
        path: the file; OpenVINO's weights lie beside it.
        engine: what runs it.
        precision: of the arithmetic inside.
        bytes: size on disk.
        parity: on a fixed batch.
        change: on a test split; None for fp32 without a manifest.
    """

    path: Path
    engine: EngineName
    precision: Precision
    bytes: int
    parity: Parity
    change: Change | None


def export_weights(
    weights: str | Path | None,
    to: str,
    out: Path,
    *,
    precision: str = "fp32",
    manifest: Manifest | None = None,
    split: str = "test",
    calibration_split: str = "train",
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Write weights for one engine; whole, checked and measured, or not at all.

    Args:
        weights: as `mfclip.detectors.load_detector` takes them.
        to: ``onnx``, ``openvino`` or ``torch``.
        out: the file; its ending is that of the engine (`SUFFIXES`).
        precision: ``fp32``; ``bf16`` for openvino and torch; ``int8`` for openvino.
        manifest: faces to calibrate and measure on; needed for bf16 and int8.
        split: of the manifest, on which scores and AUC are compared.
        calibration_split: of the manifest, from which int8 takes its ranges.
        progress: told what is being done.

    Raises:
        ConfigError: an unknown engine or precision, a wrong ending, no manifest, or weights that
            were exported already.
        ManifestError: a split is empty.
        MissingExtraError: a package of the extra ``export`` is not installed.
        OSError: the file cannot be written.
        WeightsError: the weights cannot be used, or the export fails its checks; nothing is left.
    """
    engine, kind = _check(weights, to, out, precision, manifest)
    path = find_weights(weights)
    detector, card = load_detector(path)
    detector.eval()
    facts = Export(engine=engine, precision=kind, versions=_versions(engine))
    card = card.changed(export=facts)
    with scratch_folder(out) as folder:
        draft = folder / out.name
        exported = None
        progress("converting")
        if engine != "torch":
            exported = convert(detector, card, engine, kind)
        if kind == "int8" and exported is not None and manifest is not None:
            progress("calibrating")
            graph = quantise(exported, manifest.split(calibration_split))
            exported = replace(exported, graph=graph)
        _write(exported, path, detector, card, draft)
        running, _ = load_engine(draft, engine, kind, "cpu")
        progress("comparing with PyTorch")
        parity = measure_parity(detector, running, card)
        change = None
        if manifest is not None:
            progress("measuring on the test split")
            change = measure_change(detector, running, card, manifest.split(split), split)
        _refuse(kind, parity, change)
        facts = facts.model_copy(update={"parity": parity, "change": change})
        card = card.changed(export=facts)
        del running  # OpenVINO maps the file that is written again
        _write(exported and replace(exported, card=card), path, detector, card, draft)
        size = sum(file.stat().st_size for file in folder.iterdir())
        _move(draft, out)
    return ExportReport(out, engine, kind, size, parity, change)


def _check(
    weights: str | Path | None, to: str, out: Path, precision: str, manifest: Manifest | None
) -> tuple[EngineName, Precision]:
    """Refuse what cannot work before the work begins."""
    if is_exported(weights):
        raise ConfigError(f"{weights} was exported already; name the weights it was made from")
    if to not in SUFFIXES:
        raise ConfigError(f"expected --to to be one of [{', '.join(SUFFIXES)}], but got {to!r}")
    engine = choose_engine(to, torch.device("cpu"))
    if precision == "int8":
        if engine != "openvino":
            raise ConfigError(f"int8 is offered for openvino only, but got {to!r}")
        kind: Precision = "int8"
        require("nncf", extra="export")
    else:
        kind = check_precision(engine, precision, torch.device("cpu"))
    if out.suffix != SUFFIXES[engine]:
        raise ConfigError(f"expected a file ending in {SUFFIXES[engine]} for {to}, but got {out}")
    if kind != "fp32" and manifest is None:
        raise ConfigError(
            f"{kind} changes scores, so it is offered with its change measured only; name faces "
            "with --manifest"
        )
    for package in PACKAGES[engine]:
        if package != "nncf":
            require(package, extra="export")
    return engine, kind


def convert(detector: nn.Module, card: Card, engine: EngineName, precision: Precision) -> Exported:
    """Turn a detector into a graph for onnx or openvino, not yet quantised.

    Raises:
        ConfigError: the detector uses an operation that ONNX lacks.
        MissingExtraError: a package of the extra ``export`` is not installed.
    """
    graph = VisionGraph(detector, card.temperature, split_first=precision != "fp32")
    content: Any = to_onnx(graph)
    if engine == "openvino":
        content = openvino_core().read_model(content)
    return Exported(engine, precision, graph.facts, card, content)


def _write(
    exported: Exported | None, weights: Path, detector: nn.Module, card: Card, out: Path
) -> None:
    """Write the graph, or for torch the weights without what only training needs."""
    if exported is not None:
        write_exported(exported, out)
        return
    settings = build_config({"model": {**read_weights(weights).settings, "pretrained": None}})
    save_detector(detector, settings.model, out, card=card, vision_only=True)


def _refuse(precision: Precision, parity: Parity, change: Change | None) -> None:
    """Raise if an export is not good enough to leave behind."""
    if precision == "fp32" and not parity.max_score_difference <= MAX_DIFFERENCE:
        raise WeightsError(
            f"the export differs from PyTorch by {parity.max_score_difference:.2g} in a score, "
            f"more than {MAX_DIFFERENCE:g}; nothing was written"
        )
    limit = MAX_AUC_CHANGE[precision]
    if change is not None and not abs(change.auc_change) <= limit:
        raise WeightsError(
            f"in {precision} the AUC on '{change.split}' changes by {change.auc_change:+.4f}, more "
            f"than {limit:g}; nothing was written; use a higher precision"
        )


def _move(draft: Path, out: Path) -> None:
    """Put the file in its place; the weights first, so that the name appears last."""
    weights = draft.with_suffix(".bin")
    if weights.is_file():
        os.replace(weights, out.with_suffix(".bin"))
    os.replace(draft, out)


def _versions(engine: EngineName) -> dict[str, str]:
    return {name: version(name) for name in ("mfclip", *PACKAGES[engine])}
