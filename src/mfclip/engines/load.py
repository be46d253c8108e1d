"""Weights to a running engine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from mfclip.card import Card, EngineName, Precision
from mfclip.detectors import load_detector
from mfclip.engines.convert import to_onnx
from mfclip.engines.engine import PRECISIONS, Engine
from mfclip.engines.exported import Exported, is_exported, read_exported
from mfclip.engines.graph import VisionGraph
from mfclip.engines.onnx_engine import OnnxEngine
from mfclip.engines.openvino_engine import OpenVinoEngine
from mfclip.engines.torch_engine import TorchEngine
from mfclip.errors import ConfigError
from mfclip.runtime.device import find_device

ENGINES: dict[str, EngineName] = {"torch": "torch", "onnx": "onnx", "openvino": "openvino"}

ENGINE_PACKAGES: dict[EngineName, tuple[str, ...]] = {
    "openvino": ("openvino", "onnx"),
    "onnx": ("onnxruntime", "onnx"),
}
"""What an engine needs, the fastest on a processor first; torch needs nothing."""


def load_engine(
    weights: str | Path | None = None,
    engine: str = "auto",
    precision: str | None = None,
    device: str = "auto",
) -> tuple[Engine, Card]:
    """Load weights into an engine.

    Args:
        weights: as `mfclip.detectors.load_detector` takes them, or an exported ``.onnx`` or
            ``.xml`` file, which belongs to one engine and precision.
        engine: ``torch``, ``onnx``, ``openvino``, or ``auto``: the fastest that is installed, on a
            GPU torch.
        precision: ``fp32``, ``bf16`` (torch and openvino), or None: what the file was exported for,
            else fp32.
        device: as `mfclip.runtime.device.find_device` takes it; onnx and openvino run on the CPU.

    Returns:
        The engine, and the card of the weights.

    Raises:
        ConfigError: an unknown name, or a combination that does not exist.
        MissingExtraError: the engine is not installed.
        WeightsError: the weights cannot be used.
    """
    find_device(device)  # a wrong name is told before anything is read
    if weights is not None and is_exported(weights):
        return _load_exported(Path(weights), engine, precision)
    detector, card = load_detector(weights)
    return start_engine(detector, card, engine, precision, device), card


def start_engine(
    detector: nn.Module,
    card: Card,
    engine: str = "auto",
    precision: str | None = None,
    device: str = "auto",
) -> Engine:
    """Start the engine of a detector that was loaded; arguments as in `load_engine`."""
    place = find_device(device)
    name = choose_engine(engine, place)
    precision = precision or (card.export.precision if card.export else "fp32")
    kind = check_precision(name, precision, place)
    try:
        return build_engine(detector, name, kind, place)
    except ConfigError:
        if engine != "auto" or name == "torch":
            raise
        return build_engine(detector, "torch", kind, place)  # ONNX lacks an operation


def _load_exported(path: Path, engine: str, precision: str | None) -> tuple[Engine, Card]:
    """Load a file that belongs to one engine and one precision."""
    exported = read_exported(path)
    if engine not in {"auto", exported.engine}:
        message = f"{path} was exported for engine {exported.engine}, but got engine {engine!r}"
        raise ConfigError(f"{message}; use auto, or the weights it was made from")
    if precision not in {None, exported.precision}:
        message = f"{path} was exported in {exported.precision}, but got precision {precision!r}"
        raise ConfigError(f"{message}; leave precision out, or export again")
    return run_exported(exported), exported.card


def run_exported(exported: Exported) -> Engine:
    """Start the engine of an exported graph."""
    start = OnnxEngine if exported.engine == "onnx" else OpenVinoEngine
    return start(exported.graph, exported.facts, exported.precision)


def build_engine(
    detector: nn.Module, name: EngineName, precision: Precision, device: torch.device
) -> Engine:
    """Make an engine of a detector in memory, which stays as it is."""
    if name == "torch":
        return TorchEngine(detector, precision, device)
    graph = VisionGraph(detector, split_first=precision != "fp32")
    engine = OnnxEngine if name == "onnx" else OpenVinoEngine
    return engine(to_onnx(graph), graph.facts, precision)


def choose_engine(engine: str, device: torch.device) -> EngineName:
    """Turn ``auto`` into the fastest engine that is installed.

    Raises:
        ConfigError: an unknown name.
    """
    if engine in ENGINES:
        return ENGINES[engine]
    if engine != "auto":
        choices = ", ".join(["auto", *ENGINES])
        raise ConfigError(f"expected engine to be one of [{choices}], but got {engine!r}")
    if device.type == "cpu":
        for name, packages in ENGINE_PACKAGES.items():
            if all(find_spec(package) for package in packages):
                return name
    return "torch"


def check_precision(name: EngineName, precision: str, device: torch.device) -> Precision:
    """Refuse an engine or precision that does not exist here.

    Raises:
        ConfigError: with what to use instead.
    """
    if precision == "int8":
        raise ConfigError(
            "int8 needs weights that were measured with it; make a file with: "
            "mfclip export WEIGHTS --to openvino --precision int8 --manifest FACES.csv --out FILE"
        )
    if precision == "bf16" and name == "onnx":
        raise ConfigError("onnxruntime has no bf16 on processors; use engine openvino or torch")
    if name != "torch" and device.type != "cpu":
        raise ConfigError(f"engine {name} runs on the CPU only; use device cpu, or engine torch")
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    choices = ", ".join(PRECISIONS)
    raise ConfigError(f"expected precision to be one of [{choices}], but got {precision!r}")
