"""One model, several ways to compute it: torch, onnxruntime, OpenVINO."""

from mfclip.engines.engine import Engine, Judged
from mfclip.engines.load import load_engine

__all__ = ["Engine", "Judged", "load_engine"]
