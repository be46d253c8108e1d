"""`FaceScorer`: faces that were cut out -> scores, verdicts, kinds and richest patches."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.card import Bands, Card
from mfclip.detectors import load_detector
from mfclip.engines import Engine, Judged
from mfclip.engines.exported import is_exported
from mfclip.engines.torch_engine import TorchEngine
from mfclip.errors import WeightsError
from mfclip.media.transforms import Pixels
from mfclip.predict.face_reader import FoundFace
from mfclip.predict.kinds import rank_kinds
from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Result
from mfclip.runtime.device import find_device


class FaceScorer:
    """Judges faces with one model; may be used by several threads if its engine may.

    Args:
        model: an engine, or a detector, which is run with PyTorch; detectors other than MFCLIP
            give scores only. The detector is copied: what is trained later is not seen.
        card: what is known of the weights; None takes its defaults.
        bands: which scores get which verdict; None takes the card's for whole images.
        device: where a detector runs, see `mfclip.runtime.device.find_device`.
        detector: of an engine, for heat maps; None loads it from `source` when first asked for.
        source: the weight file; None for a model that was handed over.

    Attributes:
        engine: what computes.
        card: what is known of the weights.
        bands: which scores get which verdict.
        source: the weight file; None for a model that was handed over.

    Raises:
        ConfigError: no such device.
    """

    def __init__(
        self,
        model: nn.Module | Engine,
        card: Card | None = None,
        *,
        bands: Bands | None = None,
        device: str = "auto",
        detector: nn.Module | None = None,
        source: Path | None = None,
    ) -> None:
        self.card = card or Card()
        self.bands = bands or self.card.bands("whole")
        self.source = source
        self._detector = detector
        if isinstance(model, nn.Module):
            self._detector = model
            self.engine: Engine = TorchEngine(model, "fp32", find_device(device))
        else:
            self.engine = model

    @property
    def _judges_quality(self) -> bool:
        """Whether a face can be worse than what the bands were measured on: if they were."""
        return self.bands.max_error is not None

    @property
    def loaded_detector(self) -> nn.Module | None:
        """The model itself, if it is there already."""
        return self._detector

    @property
    def detector(self) -> nn.Module:
        """The model itself, for heat maps; loaded when first asked for.

        Raises:
            WeightsError: an exported graph holds no such model.
        """
        if self._detector is None:
            if self.source is None:
                raise WeightsError("this engine was handed over without its model")
            if is_exported(self.source):
                message = f"{self.source} holds a graph and not the model; name the weights it"
                raise WeightsError(f"{message} was exported from to get heat maps")
            self._detector = load_detector(self.source)[0]
        return self._detector

    def score(self, faces: Sequence[FoundFace], *, keep_pixels: bool = False) -> list[Result]:
        """Judge faces, all in one forward pass.

        Args:
            faces: at least one.
            keep_pixels: keep the model input and the small copy of the image with each prediction.

        Returns:
            One result a face, in their order.
        """
        judged = self.engine.judge(to_images([face.pixels for face in faces]))
        scores = (judged.logits / self.card.temperature).softmax(1)[:, 1].tolist()
        kinds: list[dict[str, tuple[Kind, ...]]] = [{} for _ in faces]
        if (prompts := self.engine.facts.prompts) is not None and judged.features is not None:
            kinds = rank_kinds(prompts, judged.features)
        patches = self._locate_patches(judged) or [None] * len(faces)
        return [
            Prediction(
                path=face.path,
                score=score,
                bands=self.bands,
                kinds=found,
                patch=patch,
                image_size=self.engine.image_size,
                face=face.box,
                width=face.width,
                height=face.height,
                sha256=face.sha256,
                warnings=face.warnings,
                unreliable=(*face.void, *(face.poor if self._judges_quality else ())),
                pixels=face.pixels if keep_pixels else None,
                preview=face.preview if keep_pixels else None,
            )
            if math.isfinite(score)
            else Failure(
                face.path, "the model gave no finite score; its weights are damaged, use others"
            )
            for face, score, found, patch in zip(faces, scores, kinds, patches, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """Return what judges, as it stands in ``model`` of the JSON form, but for the face step.

        That is the card, with figures that are not defined as None, and the settings in use; the
        bands of the verdict take the place of the card's single threshold.
        """
        card = {**self.card.to_json(), "verdict": self.bands.to_json()}
        card.pop("threshold", None)
        return {
            **json.loads(json.dumps(card), parse_constant=lambda _: None),
            "temperature": self.card.temperature,
            "image_size": self.engine.image_size,
            "engine": self.engine.name,
            "precision": self.engine.precision,
        }

    def _locate_patches(self, judged: Judged) -> list[Box | None]:
        """Return the richest patches; empty if the model has no noise branch."""
        size = self.engine.facts.patch_size
        if size is None or judged.patch_index is None:
            return []
        cells = self.engine.image_size // size
        places = [divmod(cell, cells) for cell in judged.patch_index.tolist()]
        return [
            Box(column * size, row * size, (column + 1) * size, (row + 1) * size)
            for row, column in places
        ]


def to_images(faces: Sequence[Pixels]) -> Float[Tensor, "b 3 h w"]:
    """Stack RGB uint8 faces of one size as a batch, with values in [0, 1]."""
    pixels = torch.from_numpy(np.stack(faces))
    return pixels.permute(0, 3, 1, 2).float() / 255
