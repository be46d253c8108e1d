"""Measure what the warnings about a picture's quality rest on.

``python benchmarks/quality.py MANIFEST --out benchmarks/results/quality.json``

On training faces: the range of each measure, and how many faces get a warning when they are left
alone, blurred or saved as JPEG. On validation faces: what the same damage does to AUC and verdicts
of the embedded weights; once more without saving faces as the training faces were saved, and with
the face found in the picture and cut out. No test split is touched.
"""

from __future__ import annotations

import argparse
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.evaluate.metrics import auc
from mfclip.evaluate.verdicts import verdict_rates
from mfclip.media.faces import FaceDetector
from mfclip.media.images import read_image
from mfclip.media.transforms import Pixels
from mfclip.predict import quality
from mfclip.predict.faces import WholePicture
from mfclip.predict.heat_map import blur
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.runtime.provenance import provenance

SIGMAS = (0.5, 1.0, 1.5, 2.0, 3.0)
QUALITIES = (90, 50, 30, 20, 10)
LIGHTS = (0.25, 0.5)
PERCENTILES = (0, 0.5, 1, 2, 50, 98, 99, 99.5, 100)

SCALED = "scaled to 240 and back"
LANCZOS = Image.Resampling.LANCZOS

Damage = Callable[[Pixels], Pixels]


def blurred(sigma: float) -> Damage:
    """Blur with a Gaussian of this standard deviation, pixels of a face of 256."""

    def apply(picture: Pixels) -> Pixels:
        planes = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        done: Pixels = blur(planes, sigma)[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
        return np.ascontiguousarray(done)

    return apply


def compressed(level: int) -> Damage:
    """Save as JPEG of this quality and read again."""

    def apply(picture: Pixels) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=level)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return apply


def darkened(share: float) -> Damage:
    """Multiply all values."""
    return lambda picture: np.rint(picture * share).astype(np.uint8)


def scaled(side: int) -> Damage:
    """Scale to this side and back, as a face that is cut out of a picture is scaled once."""

    def apply(picture: Pixels) -> Pixels:
        image = Image.fromarray(picture)
        return np.asarray(image.resize((side, side), LANCZOS).resize(image.size, LANCZOS))

    return apply


DAMAGE: dict[str, Damage] = {
    "none": lambda picture: picture,
    SCALED: scaled(240),
    **{f"blur, sigma {sigma}": blurred(sigma) for sigma in SIGMAS},
    **{f"JPEG quality {level}": compressed(level) for level in QUALITIES},
    **{f"light x {share}": darkened(share) for share in LIGHTS},
}


def ranges(predictor: Predictor, pictures: Sequence[Pixels]) -> dict[str, dict[str, float]]:
    """Give percentiles of each measure over faces left alone."""
    faces = [predictor.reader.prepare(picture) for picture in pictures]
    detector = FaceDetector()
    found = [detector.detect(picture) for picture in pictures]
    values = {
        "sharpness": [quality.sharpness(face) for face in faces],
        "brightness": [float((face @ quality.GREY).mean()) for face in faces],
        "blockiness": [quality.blockiness(picture) for picture in pictures],
        "absolute yaw": [abs(several[0].yaw) for several in found if several],
    }
    return {
        name: {str(p): round(float(np.percentile(row, p)), 3) for p in PERCENTILES}
        for name, row in values.items()
    }


def warned(predictor: Predictor, pictures: Sequence[Pixels], damage: Damage) -> dict[str, float]:
    """Share of damaged faces with each warning, a ratio."""
    damaged = [damage(picture) for picture in pictures]
    faces = [predictor.reader.prepare(picture) for picture in damaged]
    light = [float((face @ quality.GREY).mean()) for face in faces]
    shares = {
        "blurred": [quality.sharpness(face) < quality.LEAST_SHARPNESS for face in faces],
        "dark": [one < quality.DARK for one in light],
        "bright": [one > quality.BRIGHT for one in light],
        "blocky": [quality.blockiness(one) > quality.MOST_BLOCKINESS for one in damaged],
    }
    return {name: round(float(np.mean(row)), 4) for name, row in shares.items()}


def cost(predictor: Predictor, samples: Sequence[Sample], damage: Damage) -> dict[str, Any]:
    """Score damaged faces: AUC and what their verdicts are worth."""
    judged = []
    for sample in samples:
        first = predictor.predict([damage(read_image(sample.path))])[0]  # the largest face
        if isinstance(first, Prediction):
            judged.append((first.score, int(sample.labels.is_fake), sample.group))
    score, target, groups = (np.array(column) for column in zip(*judged, strict=True))
    bands = (predictor.bands.real_below, predictor.bands.fake_from)
    rates = verdict_rates(score, target, groups, bands=bands)
    return {"faces": len(judged), "auc": auc(score, target), **rates}


def sample(manifest: Manifest, split: str, count: int) -> list[Sample]:
    """Draw faces of one split; always the same ones."""
    rows = list(manifest.split(split))
    return random.Random(0).sample(rows, min(count, len(rows)))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=500, help="training faces to look at")
    parser.add_argument("--val", type=int, default=600, help="validation faces to score")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.manifest)
    predictor = Predictor.load(finder=WholePicture())
    train = [read_image(one.path) for one in sample(manifest, "train", arguments.train)]
    val = sample(manifest, "val", arguments.val)
    report: dict[str, Any] = {
        **asdict(provenance()),
        "limits": {
            name: getattr(quality, name)
            for name in ("LEAST_SHARPNESS", "MOST_BLOCKINESS", "DARK", "BRIGHT", "MOST_YAW")
        },
        "train": {"faces": len(train), "percentiles": ranges(predictor, train)},
        "val": {"faces": len(val)},
        "damage": {},
    }
    plain = Predictor(
        predictor.engine, predictor.card.changed(jpeg_quality=None), finder=WholePicture()
    )
    report["not_saved_alike"] = {
        name: cost(plain, val, DAMAGE[name]) for name in ("none", SCALED, "blur, sigma 0.5")
    }
    report["found"] = cost(Predictor.load(), val, DAMAGE["none"])
    for name, damage in DAMAGE.items():
        report["damage"][name] = {
            "warned": warned(predictor, train, damage),
            "cost": cost(predictor, val, damage),
        }
        print(name, json.dumps(report["damage"][name]["warned"]), flush=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
