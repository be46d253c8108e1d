"""`Predictor`: images in, predictions out; the same in Python and on the command line.

Flow: file -> upright RGB image -> faces -> model inputs (`FaceReader`) -> batch -> score, kinds,
richest patch (`FaceScorer`). Images are read in threads, up to a batch of them ahead of the engine.
Memory is flat: at most two batches of faces are held, however many files there are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from mfclip.card import Bands, Card
from mfclip.detectors import find_weights, restore_detector
from mfclip.engines import Engine, load_engine
from mfclip.engines.exported import is_exported
from mfclip.engines.load import start_engine
from mfclip.errors import ConfigError
from mfclip.media.faces import Runtime
from mfclip.predict.face_reader import Entry, FaceReader, FoundFace, Input, VideoFile
from mfclip.predict.face_scorer import FaceScorer
from mfclip.predict.faces import DetectedFaces, FaceFinder, WholePicture
from mfclip.predict.prediction import Failure, Result, Skipped
from mfclip.predict.reading import read_ahead
from mfclip.runtime.device import find_device
from mfclip.runtime.provenance import hash_file
from mfclip.weights import read_weights

_P = TypeVar("_P", bound="Predictor")


class Predictor:
    """Judge images with one model: a reader, which finds the faces, and a scorer.

    Args:
        model: an engine, or a detector, which is run with PyTorch; detectors other than MFCLIP
            give scores only. The detector is copied: what is trained later is not seen.
        card: what is known of the weights; None takes its defaults.
        device: where a detector runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; auto takes
            a GPU where there is one. An engine has its own place.
        threshold: scores from here upwards are called fake, all others real; None takes the
            card's bands, between which a face is uncertain.
        finder: finds the faces in an image; None takes the whole image as the face.
        detector: of an engine, for heat maps; None loads it from `source` when first asked for.
        source: the weight file; None for a model that was handed over.

    Attributes:
        reader: cuts the faces out of files and arrays.
        scorer: judges them.
        threshold: the user's own; None for the card's bands.

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
        detector: nn.Module | None = None,
        source: Path | None = None,
    ) -> None:
        card, finder = card or Card(), finder or WholePicture()
        self.threshold = threshold
        self.scorer = FaceScorer(
            model,
            card,
            # each way to come by faces has bands of its own
            bands=card.bands(finder.name, threshold),
            device=device,
            detector=detector,
            source=source,
        )
        self.reader = FaceReader(
            finder,
            resize=card.resize,
            image_size=self.scorer.engine.image_size,
            jpeg_quality=card.jpeg_quality,
        )

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
        keep_detector: bool = False,
    ) -> _P:
        """Load weights and their card.

        Args:
            weights: a safetensors file, a run's folder, a hub id, or an exported file; None for
                the embedded ones.
            device: see `Predictor`.
            threshold: see `Predictor`.
            finder: None does as the command line does: every face is found, cut out as the
                training faces were (the card's ``face_margin`` and ``face_align``) and judged by
                itself. `mfclip.predict.faces.WholePicture()` takes the whole image.
            engine: ``torch``, ``onnx``, ``openvino``, or ``auto``: the fastest that is installed.
                The scores are the same to 1e-4; torch starts soonest. With OpenVINO the faces are
                found by it, too.
            precision: ``fp32`` or ``bf16``; None takes what the file was exported for, else fp32.
            keep_detector: keep the model beside the engine, for heat maps; else `detector` reads
                the file again.

        Raises:
            WeightsError: the weights are absent, cut short, or of another model.
            ConfigError: no such device or engine, or a threshold outside [0, 1].
            MissingExtraError: the engine is not installed.
        """
        find_device(device)  # a wrong name is told before anything is read
        detector = None
        if is_exported(weights):
            path = Path(weights or "")
            running, card = load_engine(path, engine, precision, device)
            sha256 = hash_file(path)
        else:
            path = find_weights(weights)
            file = read_weights(path)
            source = str(weights or "the embedded weights")
            detector = restore_detector(file, source, trusted=weights is None)
            card, sha256 = file.card, file.sha256
            running = start_engine(detector, card, engine, precision, device)
        card = card.changed(weights=str(weights or "embedded"), weights_sha256=sha256)
        runtime: Runtime = "openvino" if running.name == "openvino" else "torch"
        finder = finder or DetectedFaces(
            margin=card.face_margin, align=card.face_align, runtime=runtime
        )
        return cls(
            running,
            card,
            threshold=threshold,
            finder=finder,
            detector=detector if keep_detector else None,
            source=path,
        )

    def using(self, *, engine: Engine | None = None, finder: FaceFinder | None = None) -> Predictor:
        """Put another engine or finder together with the rest of this predictor.

        Args:
            engine: that runs the same weights.
            finder: finds the faces; the verdicts are those of its way to come by faces.
        """
        return Predictor(
            engine or self.engine,
            self.card,
            threshold=self.threshold,
            finder=finder or self.finder,
            detector=self.scorer.loaded_detector,
            source=self.scorer.source,
        )

    @property
    def engine(self) -> Engine:
        """What computes."""
        return self.scorer.engine

    @property
    def card(self) -> Card:
        """What is known of the weights."""
        return self.scorer.card

    @property
    def bands(self) -> Bands:
        """Which scores get which verdict."""
        return self.scorer.bands

    @property
    def finder(self) -> FaceFinder:
        """What finds the faces in an image."""
        return self.reader.finder

    @property
    def detector(self) -> nn.Module:
        """The model itself, for heat maps; see `FaceScorer.detector`."""
        return self.scorer.detector

    @property
    def source(self) -> Path | None:
        """The weight file; None for a model that was handed over."""
        return self.scorer.source

    def predict(self, inputs: Input | Iterable[Input], *, batch_size: int = 32) -> list[Result]:
        """Judge images and return everything at once.

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
        """Judge images one batch at a time; for folders of any size.

        Args:
            inputs: see `predict`.
            batch_size: see `predict`.
            keep_pixels: keep the model input and a small copy of the image with each prediction,
                as a report needs them.

        Yields:
            In the order of `inputs`, for each one a `Failure` or a `Prediction` for each face.

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        if isinstance(inputs, Input):
            inputs = [inputs]
        for result in self.sort_and_judge(inputs, batch_size=batch_size, keep_pixels=keep_pixels):
            if isinstance(result, VideoFile):
                message = "a video; judge it with mfclip.predict.mixed.judge_files"
                yield Failure(str(result.path), message)
            elif isinstance(result, Skipped):
                yield Failure(result.path, result.reason)
            else:
                yield result

    def sort_and_judge(
        self, inputs: Iterable[Input], *, batch_size: int = 32, keep_pixels: bool = False
    ) -> Generator[Result | VideoFile | Skipped, None, None]:
        """Judge the images among some files, and hand on what is none in its place.

        Arguments as in `iter_predict`; the first bytes of a file tell what it is.
        """
        numbered = self.judge_numbered(inputs, batch_size=batch_size, keep_pixels=keep_pixels)
        with closing(numbered):
            for _, result in numbered:
                yield result

    def judge_numbered(
        self, inputs: Iterable[Input], *, batch_size: int = 32, keep_pixels: bool = False
    ) -> Generator[tuple[int, Result | VideoFile | Skipped], None, None]:
        """Do what `sort_and_judge` does, and say of each result which input it belongs to.

        That is its place among the inputs, from 0: paths may occur twice, and a picture may give
        several results.
        """
        if batch_size < 1:
            raise ConfigError(f"expected batch_size of at least 1, but got {batch_size}")
        read = partial(self.reader.read, preview=keep_pixels)
        waiting: list[tuple[int, Entry]] = []
        with closing(read_ahead(read, inputs, ahead=batch_size)) as found:
            for number, entries in enumerate(found):
                waiting.extend((number, entry) for entry in entries)
                # what is no image may take its caller long: judge what comes before it first
                ends = any(isinstance(entry, VideoFile | Skipped) for entry in entries)
                if ends or len(waiting) >= batch_size:
                    yield from self._judge(waiting, batch_size, keep_pixels)
                    waiting = []
        yield from self._judge(waiting, batch_size, keep_pixels)

    def judge(
        self, found: Sequence[FoundFace], *, batch_size: int = 32, keep_pixels: bool = False
    ) -> Iterator[Result]:
        """Judge faces that `reader` found, a batch at a time."""
        for first in range(0, len(found), batch_size):
            batch = found[first : first + batch_size]
            yield from self.scorer.score(batch, keep_pixels=keep_pixels)

    def describe(self) -> dict[str, Any]:
        """Return what judges, as it stands in ``model`` of the JSON form."""
        return {
            **self.scorer.describe(),
            "faces": self.finder.name,
            "resize": self.reader.resize,
        }

    def _judge(
        self, waiting: Sequence[tuple[int, Entry]], batch_size: int, keep_pixels: bool
    ) -> Iterator[tuple[int, Result | VideoFile | Skipped]]:
        faces = [entry for _, entry in waiting if isinstance(entry, FoundFace)]
        judged = self.judge(faces, batch_size=batch_size, keep_pixels=keep_pixels)
        for number, entry in waiting:
            yield number, next(judged) if isinstance(entry, FoundFace) else entry
