"""Speed of every engine and precision, and what it does to the scores.

    python benchmarks/engines.py --model mfclip --out benchmarks/results/engines-mfclip.json
    python benchmarks/engines.py --model mfclip-lite --manifest FACES/manifest.csv \
        --out benchmarks/results/engines-mfclip-lite.json

All ways take turns within each round (`machine.timing`): the straightforward way of
``straightforward.py``, PyTorch as it is, and the engines. For ``mfclip`` the weights are random,
which is enough for speed, unless trained ones are named; for ``mfclip-lite`` they are those of the
package. With trained weights and a manifest each precision below fp32 is exported and measured on
the test split, as ``mfclip export`` does it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import straightforward
from machine.inference import ENGINES
from machine.subject import made_images
from machine.timing import Timing, Way, time_ways
from mfclip.config import MODEL_PRESETS
from mfclip.data.manifest import read_manifest
from mfclip.detectors import load_detector
from mfclip.evaluate.export import SUFFIXES, export_weights
from mfclip.model.build import create_model
from mfclip.runtime.provenance import provenance
from speed import engine_ways


def ways_of(model: Any, images: torch.Tensor) -> dict[str, Way]:
    """Name every way that this machine can go."""
    ways: dict[str, Way] = {
        "straightforward": lambda: model.classify(straightforward.encode_image(model, images)),
        "plain torch fp32": lambda: model(images),
    }
    return {**ways, **engine_ways(model, images)}


def row(timing: Timing, slow: Timing, plain: Timing, batch: int) -> dict[str, Any]:
    """One way's figures."""
    return {
        "images_per_second": batch / timing.median,
        "times_straightforward": timing.times_faster(slow),
        "times_plain_torch": timing.times_faster(plain),
        "seconds_a_batch": timing.to_json(),
    }


def measure(model: Any, batch: int, rounds: int) -> dict[str, Any]:
    """Time all ways in turn; compare what they say with PyTorch."""
    images = made_images(batch, model.image_size)
    ways = ways_of(model, images)
    with torch.inference_mode():
        scores = {name: way().softmax(1)[:, 1] for name, way in ways.items()}
        timings = time_ways(ways, rounds=rounds)
    slow, plain = timings["straightforward"], timings["plain torch fp32"]
    return {
        name: {
            **row(timing, slow, plain, batch),
            "largest_score_difference": float(
                (scores[name] - scores["plain torch fp32"]).abs().max()
            ),
        }
        for name, timing in timings.items()
    }


def changes(weights: Path | None, manifest: Path) -> dict[str, Any]:
    """Export weights in each precision below fp32; return what was measured."""
    faces, found = read_manifest(manifest), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, precision in ENGINES:
            if precision == "fp32":
                continue
            out = Path(folder) / f"{precision}{SUFFIXES[name]}"
            report = export_weights(weights, name, out, precision=precision, manifest=faces)
            found[f"{name} {precision}"] = report.change and asdict(report.change)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mfclip", choices=list(MODEL_PRESETS))
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--manifest", type=Path, help="faces to measure the change of AUC on")
    parser.add_argument("--weights", type=Path, help="trained ones of that model, to measure with")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    embedded = options.model == "mfclip-lite" and not options.weights
    trained = options.weights or embedded
    model = load_detector(options.weights)[0] if trained else create_model(options.model)
    load_before = os.getloadavg()[0]
    result = {
        "command": "python benchmarks/engines.py",
        "model": options.model,
        "batch": options.batch_size,
        "rounds": options.rounds,
        "threads": options.threads,
        "load_before": load_before,
        "packages": {name: version(name) for name in ("openvino", "onnxruntime", "nncf", "onnx")},
        **asdict(provenance()),
        "ways": measure(model.eval(), options.batch_size, options.rounds),
    }
    if options.manifest and trained:
        result["change_on_test"] = changes(options.weights, options.manifest)
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    for name, entry in result["ways"].items():
        print(
            f"{name:18} {entry['images_per_second']:7.1f}/s  "
            f"{entry['times_straightforward']:5.2f} x straightforward  "
            f"{entry['times_plain_torch']:5.2f} x plain torch  "
            f"scores within {entry['largest_score_difference']:.1e}"
        )
    for name, entry in result.get("change_on_test", {}).items():
        print(f"{name:18} AUC {entry['auc_change']:+.5f} on {entry['num_faces']} faces")


if __name__ == "__main__":
    main()
