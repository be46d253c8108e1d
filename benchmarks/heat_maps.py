"""Do heat maps show what the detector's verdict hangs on, and where a picture was edited?

``python benchmarks/heat_maps.py MANIFEST --out benchmarks/results/heat_maps.json``

Deletion: of forged faces that are called fake, grey out the hottest 10% of the pixels, and see how
far the score falls; beside it three controls of 10%: the hottest pixels of another face's map (the
same shape in another place), a square, scattered pixels. Scattered grey pixels are themselves the
strongest of noises, so only the first two compare like with like.

Pointing: real faces are edited here, in a known region, and stored as JPEG as the set is. Does the
hottest point lie in it? Chance is the region's share of the picture; ``untouched`` is the hottest
point of the same face before the edit, which tells finding the edit from a liking for noses.

All means come with 95% bootstrap intervals over the people.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor, nn

from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import Sample, read_manifest
from mfclip.detectors import find_weights, load_detector
from mfclip.evaluate.bootstrap import draw_weights, percentile_interval
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.experiment.figures.faces import choose_faces, kind_of
from mfclip.media.blending import local_warp, random_face_mask, self_blend, splice
from mfclip.media.transforms import Pixels
from mfclip.predict.face_scorer import to_images
from mfclip.predict.heat_map import BASE_BLUR, SMOOTHING, STEPS, heat_map
from mfclip.runtime.provenance import hash_file, provenance

SHARE = 0.1
"""Share of the pixels that is greyed out."""

CHANGED = 6
"""A pixel is edited if a channel moved by more than so many levels before JPEG."""

QUALITY = 90
"""JPEG quality of the faces set."""

BATCH = 4


def mean(values: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Give a mean with its 95% interval over resampled groups."""
    array = np.asarray(values, float)
    means = [w @ array / w.sum(1) for w in draw_weights(np.asarray(groups), 2000, 0)]
    interval = percentile_interval(np.concatenate(means))
    return {"mean": float(array.mean()), "low": interval.low, "high": interval.high}


def score(detector: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    with torch.inference_mode():
        return torch.cat([detector(part).softmax(1)[:, 1] for part in images.split(BATCH)])


def heat(detector: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    parts = []
    for number, part in enumerate(images.split(BATCH)):
        parts.append(heat_map(detector, part))
        print(f"maps {number * BATCH + len(part)} of {len(images)}", end="\r", file=sys.stderr)
    return torch.cat(parts)


def hottest(maps: Float[Tensor, "b h w"]) -> Tensor:
    """Mark the hottest `SHARE` of each map."""
    flat = maps.flatten(1)
    index = flat.topk(round(SHARE * flat.shape[1]), dim=1).indices
    return torch.zeros_like(flat).scatter(1, index, 1.0).view_as(maps)


def squares(shape: torch.Size, rng: np.random.Generator) -> Tensor:
    out, side = torch.zeros(shape), round((SHARE * shape[1] * shape[2]) ** 0.5)
    for mask in out:
        top, left = rng.integers(0, shape[1] - side + 1, 2)
        mask[top : top + side, left : left + side] = 1
    return out


def measure_deletion(detector: nn.Module, faces: FaceDataset, threshold: float) -> dict[str, Any]:
    samples = list(faces.manifest)
    images = to_images([faces[row, 0].image for row in range(len(samples))])
    before = score(detector, images)
    kept = (before >= threshold).nonzero()[:, 0]
    images, before, samples = images[kept], before[kept], [samples[row] for row in kept.tolist()]
    maps, rng = heat(detector, images), np.random.default_rng(0)
    masks = {
        "hottest": hottest(maps),
        "another_face": hottest(maps.roll(1, 0)),
        "square": squares(maps.shape, rng),
        "scattered": hottest(torch.from_numpy(rng.random(maps.shape))),
    }
    grey = torch.tensor(0.5)
    falls = {
        name: before - score(detector, torch.where(mask[:, None] > 0, grey, images))
        for name, mask in masks.items()
    }
    groups = [sample.group for sample in samples]
    kinds = [kind_of(sample.labels) for sample in samples]
    out: dict[str, Any] = {
        "faces": len(samples),
        "score_before": mean(before.tolist(), groups),
        "fall": {name: mean(fall.tolist(), groups) for name, fall in falls.items()},
        "fall_beyond": {
            name: mean((falls["hottest"] - fall).tolist(), groups)
            for name, fall in falls.items()
            if name != "hottest"
        },
        "by_generator": {},
    }
    for kind in sorted(set(kinds)):
        rows = [row for row, own in enumerate(kinds) if own == kind]
        own = {name: float(fall[rows].mean()) for name, fall in falls.items()}
        out["by_generator"][kind] = {"faces": len(rows), **own}
    return out


def _splice(face: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels:
    mask = Image.fromarray((random_face_mask(*face.shape[:2], rng) * 255).astype(np.uint8))
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(4)), np.float32) / 255
    return splice(other, face, soft)


EDITS: dict[str, Callable[[Pixels, Pixels, np.random.Generator], Pixels]] = {
    "splice": _splice,
    "self_blend": lambda face, _, rng: self_blend(face, rng)[1],
    "local_warp": lambda face, _, rng: local_warp(face, rng),
}


def store(face: Pixels) -> Pixels:
    """Pass a face through JPEG, as all faces of the set were."""
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=QUALITY)
    return np.array(Image.open(buffer))


def measure_pointing(
    detector: nn.Module, faces: FaceDataset, samples: Sequence[Sample], threshold: float
) -> dict[str, Any]:
    originals = [faces[row, 0].image for row in range(len(samples))]
    groups = np.asarray([sample.group for sample in samples])
    untouched = heat(detector, to_images([store(face) for face in originals]))
    out: dict[str, Any] = {}
    for name, edit in EDITS.items():
        rng = np.random.default_rng(0)
        others = originals[1:] + originals[:1]
        edited = [edit(a, b, rng) for a, b in zip(originals, others, strict=True)]
        moved = [
            np.abs(after.astype(int) - before).max(2) > CHANGED
            for after, before in zip(edited, originals, strict=True)
        ]
        images = to_images([store(face) for face in edited])
        maps = heat(detector, images)
        region = torch.from_numpy(np.stack(moved)).flatten(1)
        found = region.gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0].numpy()
        before = region.gather(1, untouched.flatten(1).argmax(1, keepdim=True))[:, 0].numpy()
        scores = score(detector, images).numpy()
        out[name] = {
            "all": _pointing(found, before, region, groups, np.full(len(groups), True)),
            "called_fake": _pointing(found, before, region, groups, scores >= threshold),
        }
        print(name, json.dumps(out[name]["all"]), flush=True)
    return out


def _pointing(
    found: np.ndarray, before: np.ndarray, region: Tensor, groups: np.ndarray, kept: np.ndarray
) -> dict[str, Any]:
    if kept.sum() < 2:  # noqa: PLR2004 - no interval of one
        return {"faces": int(kept.sum())}
    own = groups[kept].tolist()
    area = region.float().mean(1).numpy()
    return {
        "faces": int(kept.sum()),
        "hottest_inside": mean(found[kept].tolist(), own),
        "untouched_inside": mean(before[kept].tolist(), own),
        "chance": mean(area[kept].tolist(), own),
    }


NAMES = {
    "hottest": "its hottest 10%",
    "another_face": "the hottest 10% of another face",
    "square": "a square of 10%, anywhere",
    "scattered": "10% of the pixels, scattered",
}


def _words(figure: dict[str, float]) -> str:
    return "{mean:.2f} ({low:.2f} to {high:.2f})".format(**figure)


def render(report: dict[str, Any]) -> str:
    """Write the figures as two Markdown tables."""
    fall = report["deletion"]["fall"]
    lines = ["| greyed out | the score falls by |", "|---|---|"]
    lines += [f"| {words} | {_words(fall[name])} |" for name, words in NAMES.items()]
    lines += ["", "| edit | hottest point in it | the same before the edit | its area |"]
    lines += ["|---|---|---|---|"]
    for name, found in report["pointing"].items():
        own = found["all"]
        keys = ("hottest_inside", "untouched_inside", "chance")
        figures = " | ".join(_words(own[key]) for key in keys)
        lines.append(f"| {name.replace('_', ' ')} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure both and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=16, help="forged faces of each generator")
    parser.add_argument("--real", type=int, default=40, help="real faces to edit")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    loaded, card = load_detector()
    detector = CalibratedDetector(loaded, card.temperature).requires_grad_(False).eval()
    samples = read_manifest(arguments.manifest).split(arguments.split)
    sizes = {"resize": card.resize, "image_size": int(loaded.image_size)}
    forged = choose_faces(samples.where(lambda s: s.labels.is_fake), arguments.count)
    real = choose_faces(samples.where(lambda s: not s.labels.is_fake), arguments.real)
    report: dict[str, Any] = {
        "split": arguments.split,
        "manifest": samples.fingerprint,
        "weights_sha256": hash_file(find_weights(None)),
        **asdict(provenance()),
        "method": {"steps": STEPS, "base_blur": BASE_BLUR, "smoothing": SMOOTHING},
        "deletion": measure_deletion(detector, FaceDataset(forged, **sizes), card.threshold),
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["deletion"]["fall"]), flush=True)
    pointed = FaceDataset(real, **sizes)
    report["pointing"] = measure_pointing(detector, pointed, real.samples, card.threshold)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(render(report))


if __name__ == "__main__":
    main()
