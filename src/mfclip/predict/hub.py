"""Sharing weights: a `Predictor` that saves to and loads from folders and the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin

from mfclip.errors import WeightsError
from mfclip.predict.predictor import Predictor

WEIGHTS = "model.safetensors"
"""Name of the weight file in a folder or hub repository."""


class HubPredictor(
    Predictor,
    ModelHubMixin,
    library_name="mfclip",
    tags=["deepfake-detection", "image-forensics"],
    license="other",
):
    """A predictor with `save_pretrained`, `from_pretrained` and `push_to_hub`.

    Example:
        >>> predictor = HubPredictor.from_pretrained("owner/name")  # doctest: +SKIP
        >>> predictor.save_pretrained("folder")  # doctest: +SKIP
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        """Copy the weight file, which holds settings and card."""
        if self.source is None:
            raise WeightsError("this predictor was made from a model in memory; save that first")
        shutil.copyfile(self.source, save_directory / WEIGHTS)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> HubPredictor:
        """Load from a folder or a hub repository."""
        kept = {key: options[key] for key in ("device", "threshold", "finder") if key in options}
        return cls.load(model_id, **kept)
