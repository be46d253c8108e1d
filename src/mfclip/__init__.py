"""Tell a real face from a forged one.

The names below are loaded when first used, so that ``import mfclip`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfclip.config import RunConfig, load_config
    from mfclip.data.manifest import Manifest, read_manifest
    from mfclip.detectors import load_detector
    from mfclip.labels import Labels
    from mfclip.model.build import create_model
    from mfclip.model.mfclip import MFCLIP
    from mfclip.model.spa import SamplePairAttention
    from mfclip.model.tokenizer import tokenize
    from mfclip.predict.prediction import Failure, Prediction
    from mfclip.predict.predictor import Predictor
    from mfclip.predict.video import judge_video

__version__ = "0.2.0"

_HOME = {
    "Failure": "predict.prediction",
    "MFCLIP": "model.mfclip",
    "Labels": "labels",
    "Manifest": "data.manifest",
    "Prediction": "predict.prediction",
    "Predictor": "predict.predictor",
    "RunConfig": "config",
    "SamplePairAttention": "model.spa",
    "create_model": "model.build",
    "judge_video": "predict.video",
    "load_config": "config",
    "load_detector": "detectors",
    "read_manifest": "data.manifest",
    "tokenize": "model.tokenizer",
}

__all__ = [
    "MFCLIP",
    "Failure",
    "Labels",
    "Manifest",
    "Prediction",
    "Predictor",
    "RunConfig",
    "SamplePairAttention",
    "create_model",
    "judge_video",
    "load_config",
    "load_detector",
    "read_manifest",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mfclip' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mfclip.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
