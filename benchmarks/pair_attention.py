"""What sample pair attention does to the image features: their likeness, and the kinds they name.

    python benchmarks/pair_attention.py RUNS/parts MANIFEST --out FINDINGS/parts/features.json

For every finished run of the rows that differ in pair attention alone: the contrastive loss at the
end of training, the mean cosine of two test images' features (1 = all alike), and how often the
nearest prompt names the right kind of a forgery, each kind counted alike
(`mfclip.evaluate.kinds`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import scoring_loader
from mfclip.data.manifest import Manifest, read_manifest
from mfclip.detectors import load_detector
from mfclip.evaluate.kinds import measure_kinds
from mfclip.evaluate.score import evaluating
from mfclip.experiment.score_curves import read_log
from mfclip.experiment.store import Store
from mfclip.model.mfclip import MFCLIP
from mfclip.runtime.provenance import provenance

LAST = 10
"""Logged steps whose contrastive loss is averaged."""

ROWS = (
    "NE + IE + FTE + predictor",
    "NE + IE + FTE + predictor + SPA",
    "SPA as in the paper",
)

RESIZE = 96
"""Pixels; `configs/findings/base.toml`."""


def likeness(detector: MFCLIP, faces: Manifest) -> float:
    """Mean cosine of the features of two different images."""
    dataset = FaceDataset(faces, resize=RESIZE, image_size=detector.image_size)
    with evaluating(detector), torch.inference_mode():
        parts = [detector.encode_image(batch.images) for batch in scoring_loader(dataset, 64)]
    features = torch.cat(parts).double()
    n = len(features)
    return float((features.sum(0).square().sum() - n) / (n * (n - 1)))


def examine(folder: Path, test: Manifest) -> dict[str, Any]:
    """Figures of one finished run."""
    detector, _ = load_detector(folder / "training" / "best.safetensors")
    assert isinstance(detector, MFCLIP)
    steps = [line for line in read_log(folder / "training") if line["kind"] == "train"][-LAST:]
    return {
        "contrastive_loss": mean(line["contrastive"] for line in steps),
        "mean_cosine": likeness(detector, test),
        "kinds": measure_kinds(detector, test, resize=RESIZE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    faces, store = read_manifest(options.manifest), Store(options.experiment)
    rows = []
    for run in store.results():
        if run["row"] in ROWS:
            found = examine(store.finished(run["key"]), faces.split("test"))
            rows.append({"row": run["row"], "seed": run["seed"], **found})
            print(rows[-1], flush=True)
    report = {**asdict(provenance()), "data": faces.fingerprint, "rows": rows}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
