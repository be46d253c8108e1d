"""Score the test split, recompressed and resized, with the embedded weights.

``python benchmarks/robustness.py MANIFEST --out benchmarks/results/robustness.json``

What pictures meet on their way: JPEG, WebP, resizing, screenshots, each at three of five levels.
The grid of the paper's Fig. 7 is ``mfclip experiment run faces_robustness``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import read_manifest
from mfclip.detectors import load_detector
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.evaluate.report import evaluate_scores
from mfclip.evaluate.score import score_dataset
from mfclip.experiment.damage import DamagedFaces
from mfclip.media.perturbations import EXTRA_PERTURBATIONS
from mfclip.runtime.provenance import provenance

LEVELS = (1, 3, 5)
FIGURES = ("auc", "tpr_at_fpr_5", "balanced_accuracy_fitted")


def score(detector: nn.Module, dataset: FaceDataset, threshold: float) -> dict[str, Any]:
    """Give the figures of one damaged copy of the split, with 95% intervals."""
    scores = score_dataset(detector, dataset, batch_size=32)
    row = evaluate_scores(scores, fitted_threshold=threshold).rows[0]
    out: dict[str, Any] = {"unreadable": len(scores.failed)}
    for name in FIGURES:
        interval = row.intervals[name]
        value = float(getattr(row.metrics, name))
        out[name] = {"value": value, "low": interval.low, "high": interval.high}
    return out


def main() -> None:
    """Score each cell and write after each, so that nothing is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    loaded, card = load_detector()
    detector = CalibratedDetector(loaded, card.temperature)
    samples = read_manifest(arguments.manifest).split(arguments.split)
    sizes = {"resize": card.resize, "image_size": int(loaded.image_size)}
    clean = score(detector, FaceDataset(samples, **sizes), card.threshold)
    report: dict[str, Any] = {
        "split": arguments.split,
        "manifest": samples.fingerprint,
        **asdict(provenance()),
        "clean": clean,
        "damaged": {},
    }
    for kind in EXTRA_PERTURBATIONS:
        for level in LEVELS:
            faces = DamagedFaces(samples, kind, level, **sizes)
            cell = score(detector, faces, card.threshold)
            report["damaged"].setdefault(kind, {})[str(level)] = cell
            print(kind, level, round(cell["auc"]["value"], 3), flush=True)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
