"""`Predictor`: pictures in, predictions out; the same in Python and on the command line.

Flow: file -> upright RGB picture -> faces -> model inputs -> batch -> score, kinds, richest patch.
Pictures are read in threads, up to a batch of them ahead of the engine. Memory is flat: at most two
batches of faces are held, however many files there are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.card import Card
from mfclip.detectors import find_weights, load_detector
from mfclip.engines import Engine, Judged, load_engine
from mfclip.engines.exported import is_exported
from mfclip.engines.torch_engine import TorchEngine
from mfclip.errors import ConfigError, WeightsError
from mfclip.media.transforms import Pixels
from mfclip.predict.face_reader import FaceReader, FoundFace, Input
from mfclip.predict.faces import DetectedFaces, FaceFinder, WholePicture
from mfclip.predict.kinds import rank_kinds
from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Result
from mfclip.predict.reading import read_ahead
from mfclip.runtime.device import find_device

_P = TypeVar("_P", bound="Predictor")


class Predictor:
    """Judge pictures with one model.

    Args:
        model: an engine, or a detector, which is run with PyTorch; detectors other than MFCLIP
            give scores only. The detector is copied: what is trained later is not seen.
        card: what is known of the weights; None takes its defaults.
        device: where a detector runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; auto takes
            a GPU where there is one. An engine has its own place.
        threshold: scores from here upwards are called fake, all others real; None takes the
            card's bands, between which a face is uncertain.
        finder: finds the faces in a picture; None takes the whole picture as the face.

    Attributes:
        bands: which scores get which verdict.
        engine: what computes.
        image_size: side of the square model input, pixels.
        reader: cuts the faces out of files and arrays.
        source: the weight file; None for a model that was handed over.

    Raises:
        ConfigError: no such device, or a threshold outside [0, 1].

    Example:
        >>> from mfclip import Predictor  # doctest: +SKIP
        >>> Predictor.load().predict(["face.jpg"])[0].score  # doctest: +SKIP
        0.93
    """

    def __init__(
        self,
        model: nn.Module | Engine,
        card: Card | None = None,
        *,
        device: str = "auto",
        threshold: float | None = None,
        finder: FaceFinder | None = None,
    ) -> None:
        self.card = card or Card()
        self._detector = model if isinstance(model, nn.Module) else None
        self.engine = (
            TorchEngine(model, "fp32", find_device(device))
            if isinstance(model, nn.Module)
            else model
        )
        self.temperature = self.card.temperature
        self.source: Path | None = None
        self.image_size = self.engine.image_size
        self.reader = FaceReader(
            finder or WholePicture(),
            resize=self.card.resize,
            image_size=self.image_size,
            jpeg_quality=self.card.jpeg_quality,
        )
        self.bands = self.card.bands(self.finder.name, threshold)

    @classmethod
    def load(
        cls: type[_P],
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        threshold: float | None = None,
        finder: FaceFinder | None = None,
        engine: str = "auto",
        precision: str | None = None,
    ) -> _P:
        """Load weights and their card.

        Args:
            weights: a safetensors file, a run's folder, a hub id, or an exported file; None for
                the embedded ones.
            device: see `Predictor`.
            threshold: see `Predictor`.
            finder: None does as the command line does: every face is found, cut out as the
                training faces were (the card's ``face_margin`` and ``face_align``) and judged by
                itself. `mfclip.predict.faces.WholePicture()` takes the whole picture.
            engine: ``torch``, ``onnx``, ``openvino``, or ``auto``: the fastest that is installed.
                The scores are the same to 1e-4; torch starts soonest.
            precision: ``fp32`` or ``bf16``; None takes what the file was exported for, else fp32.

        Raises:
            WeightsError: the weights are absent, cut short, or of another model.
            ConfigError: no such device or engine, or a threshold outside [0, 1].
            MissingExtraError: the engine is not installed.
        """
        path = Path(weights or "") if is_exported(weights) else find_weights(weights)
        running, card = load_engine(path, engine, precision, device)
        card = card.changed(weights=str(weights or "embedded"), weights_sha256=hash_file(path))
        finder = finder or DetectedFaces(margin=card.face_margin, align=card.face_align)
        judge = cls(running, card, threshold=threshold, finder=finder)
        judge.source = path
        return judge

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

    def predict(self, inputs: Input | Iterable[Input], *, batch_size: int = 32) -> list[Result]:
        """Judge pictures and return everything at once.

        Args:
            inputs: files or RGB uint8 arrays (h, w, 3), in any mixture.
            batch_size: faces that go through the model together; does not change the scores.

        Returns:
            In the order of `inputs`, for each one a `Failure` or a `Prediction` for each face.

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        return list(self.iter_predict(inputs, batch_size=batch_size))

    def iter_predict(
        self,
        inputs: Input | Iterable[Input],
        *,
        batch_size: int = 32,
        keep_pixels: bool = False,
    ) -> Iterator[Result]:
        """Judge pictures one batch at a time; for folders of any size.

        Args:
            inputs: see `predict`.
            batch_size: see `predict`.
            keep_pixels: keep the model input with each prediction, as a report needs it.

        Yields:
            In the order of `inputs`, for each one a `Failure` or a `Prediction` for each face.

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        if isinstance(inputs, Input):
            inputs = [inputs]
        if batch_size < 1:
            raise ConfigError(f"expected batch_size of at least 1, but got {batch_size}")
        waiting: list[FoundFace | Failure] = []
        with closing(read_ahead(self.reader.read, inputs, ahead=batch_size)) as pictures:
            for entries in pictures:
                waiting.extend(entries)
                if len(waiting) >= batch_size:
                    yield from self.judge(waiting, batch_size=batch_size, keep_pixels=keep_pixels)
                    waiting = []
        yield from self.judge(waiting, batch_size=batch_size, keep_pixels=keep_pixels)

    def describe(self) -> dict[str, Any]:
        """Return what judges, as it stands in ``model`` of the JSON form.

        That is the card, with figures that are not defined as None, and the settings in use; the
        bands of the verdict take the place of the card's single threshold.
        """
        card = {**self.card.to_json(), "verdict": self.bands.to_json()}
        card.pop("threshold", None)
        return {
            **json.loads(json.dumps(card), parse_constant=lambda _: None),
            "temperature": self.temperature,
            "image_size": self.image_size,
            "engine": self.engine.name,
            "precision": self.engine.precision,
            "faces": self.finder.name,
            "resize": self.resize,
        }

    @property
    def finder(self) -> FaceFinder:
        """What finds the faces in an image."""
        return self.reader.finder

    @finder.setter
    def finder(self, finder: FaceFinder) -> None:
        # a reader of its own: a copy of this predictor must not change with it
        self.reader = replace(self.reader, finder=finder)

    @property
    def resize(self) -> int:
        """Side of the square around a face before the centre crop to `image_size`, pixels."""
        return self.reader.resize

    def prepare(self, face: Pixels) -> Pixels:
        """Cut and scale a face to the model input; see `FaceReader.prepare`."""
        return self.reader.prepare(face)

    def judge(
        self,
        found: Sequence[FoundFace | Failure],
        *,
        batch_size: int = 32,
        keep_pixels: bool = False,
    ) -> Iterator[Result]:
        """Judge faces that `reader` found; see `iter_predict`."""
        faces = [entry for entry in found if isinstance(entry, FoundFace)]
        batches = (faces[i : i + batch_size] for i in range(0, len(faces), batch_size))
        judged = (result for batch in batches for result in self._score(batch))
        for entry in found:
            if isinstance(entry, Failure):
                yield entry
                continue
            result = next(judged)
            if keep_pixels and isinstance(result, Prediction):
                result = replace(result, pixels=entry.pixels)
            yield result

    def _score(self, faces: Sequence[FoundFace]) -> list[Result]:
        judged = self.engine.judge(to_images([face.pixels for face in faces]))
        scores = (judged.logits / self.temperature).softmax(1)[:, 1].tolist()
        kinds: list[dict[str, tuple[Kind, ...]]] = [{} for _ in faces]
        if (prompts := self.engine.facts.prompts) is not None and judged.features is not None:
            kinds = rank_kinds(prompts, judged.features)
        patches = self._locate_patches(judged) or [None] * len(faces)
        entries = zip(faces, scores, kinds, patches, strict=True)
        return [self._record(*entry) for entry in entries]

    def _locate_patches(self, judged: Judged) -> list[Box | None]:
        """Return the richest patches; empty if the model has no noise branch."""
        size = self.engine.facts.patch_size
        if size is None or judged.patch_index is None:
            return []
        places = [divmod(cell, self.image_size // size) for cell in judged.patch_index.tolist()]
        return [
            Box(column * size, row * size, (column + 1) * size, (row + 1) * size)
            for row, column in places
        ]

    def _record(
        self, face: FoundFace, score: float, kinds: dict[str, tuple[Kind, ...]], patch: Box | None
    ) -> Result:
        if not math.isfinite(score):
            message = "the model gave no finite score; its weights are damaged, use others"
            return Failure(face.path, message)
        return Prediction(
            path=face.path,
            score=score,
            bands=self.bands,
            kinds=kinds,
            patch=patch,
            image_size=self.image_size,
            face=face.box,
            width=face.width,
            height=face.height,
            sha256=face.sha256,
            warnings=face.warnings,
        )


def to_images(faces: Sequence[Pixels]) -> Float[Tensor, "b 3 h w"]:
    """Stack RGB uint8 faces of one size as a batch, with values in [0, 1]."""
    pixels = torch.from_numpy(np.stack(faces))
    return pixels.permute(0, 3, 1, 2).float() / 255


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
