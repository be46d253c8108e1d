"""Reading's speed: pictures decoded and fed a second, by the loaders of training and scoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from machine.record import Row
from machine.timing import Way, time_ways
from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import TrainingLoader, scoring_loader
from mfclip.data.manifest import Manifest, Sample
from mfclip.data.sampling import BatchPlan
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.transforms import AugmentLevel
from mfclip.runtime.parallel import Progress, silent

SIDE, RESIZE, IMAGE_SIZE = 256, 256, 224
QUALITY = 90


@contextmanager
def made_manifest(count: int) -> Iterator[Manifest]:
    """Make JPEG pictures of 256 x 256 pixels, as prepared faces are; gone afterwards."""
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        samples = []
        for number in range(count):
            coarse = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            samples.append(Sample(folder / f"{number}.jpg", Labels(number % 2 == 0), "train", ""))
            image.save(samples[-1].path, quality=QUALITY)
        yield Manifest(tuple(samples), folder)


def measure_feed(
    *, batch_size: int, images: int, rounds: int, progress: Progress = silent
) -> list[Row]:
    """Time decoding alone, the scoring loader, and the training loader with strong changes.

    Args:
        batch_size: pictures a batch.
        images: pictures a round, made for this; a multiple of `batch_size` counts whole batches.
        rounds: how often all of them are read.
        progress: told after every round.
    """
    with made_manifest(images) as manifest:
        ways: dict[str, Way] = {
            "decode, one thread": lambda: [read_image(sample.path) for sample in manifest],
            "feed for scoring": _scoring(manifest, batch_size),
            "feed for training, no change": _training(manifest, batch_size, "none"),
            "feed for training, strong changes": _training(manifest, batch_size, "strong"),
        }
        timings = time_ways(ways, rounds=rounds, progress=progress)
    return [Row(title, images, timing) for title, timing in timings.items()]


def _scoring(manifest: Manifest, batch_size: int) -> Way:
    dataset = FaceDataset(manifest, resize=RESIZE, image_size=IMAGE_SIZE)
    loader = scoring_loader(dataset, batch_size)
    return lambda: sum(len(batch) for batch in loader)


def _training(manifest: Manifest, batch_size: int, level: AugmentLevel) -> Way:
    dataset = FaceDataset(manifest, resize=RESIZE, image_size=IMAGE_SIZE, augment=level)
    loader = TrainingLoader(dataset, BatchPlan(manifest, "shuffle", batch_size))
    return lambda: sum(len(batch) for batch in loader.epoch(0))
