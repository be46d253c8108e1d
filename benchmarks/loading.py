"""Faces decoded and fed a second: mfclip's loader against a plain Pillow + DataLoader loop.

    python benchmarks/loading.py --out benchmarks/results/loading.json [--manifest FACES.csv]

All ways are measured in turn within each round, so that other work on the machine meets all of
them; the first round is a warm-up and is not counted. Given are the median images/s over the rounds
and their range. Without a manifest, 256 x 256 JPEGs of quality 90 are made first. The training step
is the vision half of ``mfclip-small`` with cross-entropy, forward, backward and SGD: less work than
a whole training step, so a loader that outruns it outruns training. The last lines say by how much,
and what share of its rate a step keeps when it is fed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mfclip import create_model
from mfclip.batch import Batch
from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import TrainingLoader
from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.data.sampling import BatchPlan
from mfclip.errors import MissingExtraError, require
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.transforms import AugmentLevel
from mfclip.runtime.provenance import provenance

RESIZE, IMAGE_SIZE = 256, 224

BEST = "feed: mfclip strong, 0 workers"
STEP, FED = "step: vision half, batch at hand", "step: vision half, fed by mfclip strong"


class PlainFaces(Dataset[tuple[torch.Tensor, int]]):
    """What one writes first: Pillow, a centre crop, a float tensor."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self.manifest[index]
        image = Image.open(sample.path).convert("RGB").resize((RESIZE, RESIZE))
        edge = (RESIZE - IMAGE_SIZE) // 2
        image = image.crop((edge, edge, edge + IMAGE_SIZE, edge + IMAGE_SIZE))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels.float() / 255, sample.target


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if options.out:  # found out before the work, not after
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.touch()
    with tempfile.TemporaryDirectory() as folder:
        manifest = choose(options.manifest, options.images, Path(folder))
        rates = measure(ways(manifest, options), options.rounds)
    result = {
        "images": len(manifest),
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "torch_threads": options.threads,
        "source": "given manifest" if options.manifest else "made here",
        "load_before": os.getloadavg()[0],
        "images_per_second": rates,
        "loader_over_step": rates[BEST]["median"] / rates[STEP]["median"],
        "fed_over_at_hand": rates[FED]["median"] / rates[STEP]["median"],
        **asdict(provenance()),
    }
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    for name, rate in rates.items():
        print(f"{name:45} {rate['median']:8.0f}  ({rate['lowest']:.0f} to {rate['highest']:.0f})")
    print(f"the loader feeds {result['loader_over_step']:.1f} times what the training step takes")
    print(f"fed by it, the step runs at {result['fed_over_at_hand']:.2f} of its rate")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, help="faces to read; made on the spot if omitted")
    parser.add_argument("--images", type=int, default=480, help="faces a round")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2, help="processes, where processes load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of torch, for the training step")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def choose(path: Path | None, count: int, folder: Path) -> Manifest:
    """A part of the manifest that is spread over all of it, or faces made on the spot."""
    if path:
        manifest = read_manifest(path)
        step = max(1, len(manifest) // count)
        return Manifest(manifest.samples[::step][:count], manifest.root)
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        coarse = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
        samples.append(Sample(folder / f"{number}.jpg", Labels(number % 2 == 0), "train", ""))
        image.save(samples[-1].path, quality=90)
    return Manifest(tuple(samples), folder)


def ways(manifest: Manifest, options: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """Each way reads every face once and returns how many there were."""
    paths = [sample.path for sample in manifest]
    found: dict[str, Callable[[], int]] = {
        "decode: Pillow": lambda: sum(len(plain_decode(path)) > 0 for path in paths),
        "decode: read_image": lambda: sum(len(read_image(path)) > 0 for path in paths),
    }
    try:
        jpeg = require("simplejpeg", extra="train")
        found["decode: simplejpeg alone"] = lambda: sum(
            len(jpeg.decode_jpeg(path.read_bytes())) > 0 for path in paths
        )
    except MissingExtraError:
        pass
    size, workers = options.batch_size, options.workers
    for count in (0, workers):
        plain = DataLoader(
            PlainFaces(manifest), size, num_workers=count, persistent_workers=count > 0
        )
        found[f"feed: plain DataLoader, {count} workers"] = counter(plain)
        for level in ("none", "strong"):
            loader = training(manifest, level, size, count)
            found[f"feed: mfclip {level}, {count} workers"] = epochs(loader)
    found["feed: mfclip strong, 0 workers, cached"] = epochs(
        training(manifest, "strong", size, 0, cache=True)
    )
    step = training_step()
    loader = training(manifest, "strong", size, 0)
    ready = next(loader.epoch(0))
    found[STEP] = lambda: sum(step(ready) for _ in range(4))
    found[FED] = lambda: sum(step(batch) for batch in islice(loader.epoch(0), 4))
    return found


def plain_decode(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def training(
    manifest: Manifest, level: AugmentLevel, size: int, workers: int, cache: bool = False
) -> TrainingLoader:
    dataset = FaceDataset(
        manifest, resize=RESIZE, image_size=IMAGE_SIZE, augment=level, cache=cache
    )
    return TrainingLoader(dataset, BatchPlan(manifest, "shuffle", size), workers=workers)


def epochs(loader: TrainingLoader) -> Callable[[], int]:
    return lambda: sum(len(batch) for batch in loader.epoch(0))


def counter(loader: Iterable[list[torch.Tensor]]) -> Callable[[], int]:
    return lambda: sum(len(target) for _, target in loader)


def training_step() -> Callable[[Batch], int]:
    model = create_model("mfclip-small")
    parts = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parts, lr=1e-4)

    def step(batch: Batch) -> int:
        logits = model.classify(model.encode_image(batch.images))
        torch.nn.functional.cross_entropy(logits, batch.target).backward()
        optimizer.step()
        optimizer.zero_grad()
        return len(batch)

    return step


def measure(found: dict[str, Callable[[], int]], rounds: int) -> dict[str, dict[str, float]]:
    rates: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        for name, way in found.items():
            start = time.perf_counter()
            count = way()
            if number:  # round 0 warms up
                rates[name].append(count / (time.perf_counter() - start))
    return {
        name: {"median": statistics.median(seen), "lowest": min(seen), "highest": max(seen)}
        for name, seen in rates.items()
    }


if __name__ == "__main__":
    main()
