"""Run a detector over a manifest: pictures in, one probability of fake each out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import scoring_loader
from mfclip.data.manifest import Manifest, relative_name
from mfclip.evaluate.scores import ScoredSample, Scores

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Progress = Callable[[int, int], None]

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def score_manifest(
    detector: nn.Module,
    manifest: Manifest,
    *,
    resize: int = 256,
    image_size: int = 224,
    batch_size: int = 64,
    precision: Precision = "32-true",
    workers: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Score every picture of a manifest, on the device the detector lies on.

    Args:
        detector: maps RGB faces in [0, 1] to logits, column 1 = fake. It runs in eval mode; the
            mode of each of its parts is restored.
        manifest: what is scored, in this order.
        resize: side in pixels of the square before the centre crop.
        image_size: side in pixels of the detector's input.
        batch_size: pictures judged together; no score depends on it beyond rounding.
        precision: of the detector; the softmax is in fp32 always.
        workers: loader processes; 0 decodes in threads of this process.
        progress: called after each batch with the pictures done and all pictures.

    Returns:
        One row a sample, in manifest order. Pictures that cannot be read, and faces whose score
        is not finite, have an error instead of a score.

    Raises:
        ConfigError: `resize` is smaller than `image_size`.
    """
    dataset = FaceDataset(manifest, resize=resize, image_size=image_size)
    return score_dataset(
        detector,
        dataset,
        batch_size=batch_size,
        precision=precision,
        workers=workers,
        progress=progress,
    )


def score_dataset(
    detector: nn.Module,
    dataset: FaceDataset,
    *,
    batch_size: int = 64,
    precision: Precision = "32-true",
    workers: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Score a data set that is already there, e.g. a cached validation split; see `score_manifest`.

    Args:
        dataset: made with ``augment="none"``.
        detector: as in `score_manifest`, and so are the other arguments.
        batch_size: see there.
        precision: see there.
        workers: see there.
        progress: see there.
    """
    device = _device_of(detector)
    loader = scoring_loader(dataset, batch_size, workers, device)
    scores: dict[int, float] = {}
    with evaluating(detector), torch.inference_mode():
        for batch in loader:
            values = fake_scores(detector, batch.to(device).images, precision).tolist()
            scores.update(zip(batch.index.tolist(), values, strict=True))
            if progress is not None:
                progress(len(scores) + len(loader.errors), len(dataset))
    errors = {
        each.index: each.message.removeprefix(str(each.path)).lstrip(": ") for each in loader.errors
    }
    return _join(dataset.manifest, scores, errors)


def fake_scores(
    detector: nn.Module, images: Float[Tensor, "b 3 h w"], precision: Precision = "32-true"
) -> Float[Tensor, " b"]:
    """Judge one batch: probability of fake, fp32, on the CPU.

    Args:
        detector: maps images to logits, column 1 = fake.
        images: RGB, pixel values in [0, 1], on any device.
        precision: of the detector; the softmax is in fp32.
    """
    device = _device_of(detector)
    dtype = _DTYPES.get(precision)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        logits = detector(images.to(device, non_blocking=True))
    fakes: Tensor = logits.float().softmax(dim=1)[:, 1]
    return fakes.cpu()


def _device_of(detector: nn.Module) -> torch.device:
    first = next(detector.parameters(), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(detector: nn.Module) -> Iterator[None]:
    """Put a detector into eval mode, and each of its parts back into its own mode afterwards."""
    modes = [(part, part.training) for part in detector.modules()]
    detector.eval()
    try:
        yield
    finally:
        for part, was_training in modes:
            part.training = was_training


def _join(manifest: Manifest, scores: Mapping[int, float], errors: Mapping[int, str]) -> Scores:
    rows = []
    for index, sample in enumerate(manifest):
        name = relative_name(sample.path, manifest.root)
        score = scores.get(index)
        error = errors.get(index)
        if score is not None and not math.isfinite(score):
            score, error = None, "the detector's score is not finite; its weights may be damaged"
        known = (sample.labels, sample.split, sample.group, sample.video_id)
        rows.append(ScoredSample(name, *known, score, error))
    return Scores(tuple(rows))
