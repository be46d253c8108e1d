"""Compare trials that differ from a base run in one thing, on the validation split only.

    python benchmarks/trials.py MANIFEST runs/base runs/blending runs/... \
        --start runs/small-2/best.safetensors --out benchmarks/results/trials.json

Every run starts from the same weights. Each is scored with its averaged weights (what a run keeps)
as one centre crop, also mirrored, and as five crops (middle and corners), and with its last weights
as one crop.
A difference comes with a 95% interval from resamples of whole groups, the same for all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mfclip.data.manifest import Manifest, read_manifest
from mfclip.detectors import load_detector
from mfclip.media.images import read_image
from mfclip.media.transforms import centre_square, resize_short_side
from mfclip.runtime.provenance import provenance
from mfclip.weights import read_tensors

RESAMPLES = 1000
Scores = Float[ndarray, " n"]

WAYS = {"centre": (0,), "mirrored": (0, 1), "crops": (0, 2, 3, 4, 5)}
"""Which of `cut_views` are averaged."""


def cut_views(squares: Tensor, size: int) -> list[Tensor]:
    """Cut the middle, the middle mirrored, and the four corners out of (b, 3, h, w)."""
    rest = squares.shape[-1] - size
    middle = squares[..., rest // 2 :, rest // 2 :][..., :size, :size]
    corners = [squares[..., y : y + size, x : x + size] for y in (0, rest) for x in (0, rest)]
    return [middle, middle.flip(-1), *corners]


def read_squares(manifest: Manifest, resize: int) -> Tensor:
    """Read all faces as uint8 (n, 3, resize, resize)."""
    squares = [
        resize_short_side(centre_square(read_image(sample.path)), resize) for sample in manifest
    ]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)


@torch.inference_mode()
def score(detector: nn.Module, squares: Tensor, views: int, batch_size: int = 32) -> Tensor:
    """Give the logit of fake of the first views of each face, (views, n)."""
    out = []
    for part in squares.split(batch_size):
        cut = cut_views(part, int(detector.image_size))[:views]
        out.append(torch.stack([detector(v.float() / 255).float().diff(dim=1)[:, 0] for v in cut]))
    return torch.cat(out, dim=1)


def load_last(detector: nn.Module, checkpoint: Path) -> None:
    """Replace averaged weights by those that training ended with."""
    tensors, _ = read_tensors(checkpoint)
    own = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    detector.load_state_dict(own)


def draw_counts(groups: Sequence[str]) -> list[ndarray]:
    """Draw whole groups with replacement: how often each face counts, a resample."""
    names, index = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(0)
    draws = rng.integers(len(names), size=(RESAMPLES, len(names)))
    return [np.bincount(draw, minlength=len(names))[index] for draw in draws]


def compare(scores: Scores, base: Scores, target: ndarray, counts: list[ndarray]) -> dict[str, Any]:
    """AUC with its interval, and its difference from the base's."""
    own, other = (
        np.array([roc_auc_score(target, s, sample_weight=c) for c in counts])
        for s in (scores, base)
    )
    value = roc_auc_score(target, scores)
    gain = value - roc_auc_score(target, base)
    return {"auc": _figure(value, own), "difference": _figure(gain, own - other)}


def _figure(value: float, resampled: ndarray) -> dict[str, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high)}


def main() -> None:
    """Score every run and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("base", type=Path, help="folder of the run that the others vary")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--start", type=Path, required=True, help="weights all runs start from")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.manifest).split("val")
    target = np.array([sample.labels.is_fake for sample in manifest], dtype=int)
    counts = draw_counts([sample.group for sample in manifest])
    report: dict[str, Any] = {
        "split": "val",
        "manifest": manifest.fingerprint,
        **asdict(provenance()),
        "trials": {},
    }
    base: Scores | None = None
    places = {
        "start": arguments.start,
        **{run.name: run for run in (arguments.base, *arguments.runs)},
    }
    order = [arguments.base.name, *(name for name in places if name != arguments.base.name)]
    for name in order:
        place = places[name]
        detector, card = load_detector(place)
        squares = read_squares(manifest, card.resize)
        logits = score(detector, squares, 6)
        scores = {way: logits[list(views)].mean(0).double().numpy() for way, views in WAYS.items()}
        if place.is_dir():
            load_last(detector, place / "last.safetensors")
            scores["last weights"] = score(detector, squares, 1)[0].double().numpy()
        base = scores["centre"] if base is None else base
        report["trials"][name] = {
            "epochs": card.config["train"]["epochs"] if place.is_dir() else 0,
            **{way: compare(each, base, target, counts) for way, each in scores.items()},
        }
        print(name, *(f"{way} {roc_auc_score(target, each):.3f}" for way, each in scores.items()))
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
