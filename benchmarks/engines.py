"""Speed of every engine and precision, and what it does to the scores.

    python benchmarks/engines.py --model mfclip --out benchmarks/results/engines-mfclip.json
    python benchmarks/engines.py --model mfclip-small --manifest FACES/manifest.csv \
        --out benchmarks/results/engines-mfclip-small.json

All ways take turns within each round (`mfclip.benchmark.timing`): the straightforward way of
``straightforward.py``, PyTorch as it is, and the engines. For ``mfclip`` the weights are random,
which is enough for speed; for ``mfclip-small`` they are those of the package, and with a manifest
each precision below fp32 is exported and measured on the test split, as ``mfclip export`` does it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import straightforward
from mfclip.benchmark.subject import made_images
from mfclip.benchmark.timing import Timing, Way, time_ways
from mfclip.data.manifest import read_manifest
from mfclip.detectors import load_detector
from mfclip.engines import Engine
from mfclip.engines.load import build_engine, run_exported
from mfclip.errors import MfclipError
from mfclip.export.export import SUFFIXES, convert, export_weights
from mfclip.export.quantise import quantise_on
from mfclip.model.build import create_model
from mfclip.provenance import provenance

WAYS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
CPU = torch.device("cpu")


def start(model: nn.Module, name: Any, precision: Any, images: torch.Tensor) -> Engine:
    """Put the model into an engine; int8 takes its ranges from the pictures of the benchmark."""
    if precision != "int8":
        return build_engine(model, name, precision, CPU)
    exported = convert(model, {}, name, precision)
    graph = quantise_on(exported, [image[None].numpy() for image in images[:8]])
    return run_exported(replace(exported, graph=graph))


def ways_of(model: Any, images: torch.Tensor) -> dict[str, Way]:
    """Name every way that this machine can go."""
    ways: dict[str, Way] = {
        "straightforward": lambda: model.classify(straightforward.encode_image(model, images)),
        "plain torch fp32": lambda: model(images),
    }
    for name, precision in WAYS:
        try:
            engine = start(model, name, precision, images)
        except MfclipError as error:
            print(f"left out: {name} {precision}: {error}")
            continue
        ways[f"{name} {precision}"] = lambda engine=engine: engine.judge(images).logits
    return ways


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


def changes(manifest: Path) -> dict[str, Any]:
    """Export the embedded weights in each precision below fp32; return what was measured."""
    faces, found = read_manifest(manifest), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, precision in WAYS:
            if precision == "fp32":
                continue
            out = Path(folder) / f"{precision}{SUFFIXES[name]}"
            report = export_weights(None, name, out, precision=precision, manifest=faces)
            found[f"{name} {precision}"] = report.change and asdict(report.change)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mfclip", choices=["mfclip", "mfclip-small"])
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--manifest", type=Path, help="for mfclip-small: faces to measure AUC on")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    small = options.model == "mfclip-small"
    model = load_detector()[0] if small else create_model(options.model)
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
    if options.manifest and small:
        result["change_on_test"] = changes(options.manifest)
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
