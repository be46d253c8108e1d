"""How often looks keep two people apart, and how often they split one person in two.

    python benchmarks/tracking.py FACES/manifest.csv --out benchmarks/results/tracking.json

Takes one real face of each of many people. Another moment of the same person is made by light,
colour, turn, shift, size and compression; a changed face or pose is not imitated. For each likeness
from which two looks would count as one person (`mfclip.media.tracking.ALIKE`), counts the pairs of
different people that are kept apart and the moments that are split from their person.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from mfclip.data.manifest import read_manifest
from mfclip.media.tracking import ALIKE, look_of
from mfclip.runtime.provenance import provenance

LIMITS = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)

MOMENTS = 4
"""Other moments made of each person."""


def main() -> None:
    options = parse()
    rng = np.random.default_rng(0)
    faces = pick(options.manifest, options.people)
    looks = np.stack([look(face) for face in faces])
    moments = np.stack([[look(change(face, rng)) for _ in range(MOMENTS)] for face in faces])
    same = np.einsum("pd,pmd->pm", looks, moments).ravel()
    different = (looks @ looks.T)[np.triu_indices(len(looks), 1)]
    result = {
        "people": len(faces),
        "alike": ALIKE,
        "limits": [
            {
                "likeness": limit,
                "different_people_kept_apart": round(float((different < limit).mean()), 4),
                "moments_split_from_their_person": round(float((same < limit).mean()), 4),
            }
            for limit in LIMITS
        ],
        **asdict(provenance()),
    }
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def pick(manifest: Path, count: int) -> list[Image.Image]:
    """One real face of each of `count` people, spread over the manifest."""
    first = {
        sample.group: sample.path
        for sample in reversed(read_manifest(manifest).samples)
        if not sample.labels.is_fake
    }
    paths = list(first.values())
    chosen = paths[:: max(1, len(paths) // count)][:count]
    return [Image.open(path).convert("RGB") for path in chosen]


def look(face: Image.Image) -> np.ndarray:
    found = look_of(np.asarray(face))
    return np.zeros(48, np.float32) if found is None else found


def change(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The face at another moment of one shot."""
    side = face.width
    face = ImageEnhance.Brightness(face).enhance(rng.uniform(0.75, 1.3))
    face = ImageEnhance.Color(face).enhance(rng.uniform(0.8, 1.2))
    shift = tuple(int(s) for s in rng.integers(-side // 20, side // 20 + 1, 2))
    face = face.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC, translate=shift)
    zoom = rng.uniform(0.92, 1.08)
    edge = side * (1 - zoom) / 2
    face = face.transform(
        face.size, Image.Transform.AFFINE, (zoom, 0, edge, 0, zoom, edge), Image.Resampling.BICUBIC
    )
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    main()
