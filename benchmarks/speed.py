"""Speed of the model against the straightforward way, in one run on one machine.

    python benchmarks/speed.py --model mfclip --out benchmarks/results/speed.json

Every figure is the median of several rounds after a warm-up, the ways taking turns in each round,
so that a machine whose speed drifts drifts for all of them alike.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import straightforward
from mfclip.batch import Batch
from mfclip.labels import Labels
from mfclip.model.build import create_model
from mfclip.model.patch_selector import select_richest_patch
from mfclip.provenance import provenance

BATCH = 24
KINDS = (
    Labels(False),
    Labels(True, "entire_face_synthesis", "diffusion", "DDPM"),
    Labels(True, "entire_face_synthesis", "diffusion", "LatDiff"),
    Labels(True, "entire_face_synthesis", "diffusion", "CollDiff"),
    Labels(True, "attribute_manipulation", "diffusion", "Diffae"),
    Labels(True, "attribute_manipulation", "gan", "LatTrans"),
    Labels(True, "attribute_manipulation", "gan", "IAFaces"),
    Labels(True, "face_swap", "diffusion", "DiffFace"),
    Labels(True, "face_swap", "gan", "FSLSD"),
    Labels(True, "face_swap", "gan", "FaceSwapper"),
)

Way = Callable[[], Any]


def make_batch() -> Batch:
    """Half real, half fake 8-bit pictures of smooth noise with grain, as photographs are."""
    coarse = torch.rand(BATCH, 3, 28, 28)
    images = nn.functional.interpolate(coarse, size=(224, 224), mode="bicubic").clamp(0, 1)
    images = (images + 0.03 * torch.randn_like(images)).clamp(0, 1)
    images = (images * 255).round() / 255
    labels = tuple(KINDS[0] if i % 2 else KINDS[1 + i // 2 % 9] for i in range(BATCH))
    target = torch.tensor([int(known.is_fake) for known in labels])
    return Batch(images, target, labels, torch.arange(BATCH))


def scoring_ways(model: nn.Module, batch: Batch) -> dict[str, Way]:
    """Vision features and verdict of one batch."""
    slow = copy.deepcopy(model).eval()
    fast = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    last = batch.channels_last()

    def straight() -> Any:
        return slow.classify(straightforward.encode_image(slow, batch.images))

    def bf16() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return fast(last.images)

    return {"straightforward": straight, "fp32": lambda: fast(last.images), "bf16": bf16}


def training_ways(model: nn.Module, batch: Batch) -> dict[str, Way]:
    """One step: loss, gradients, Adam."""
    last = batch.channels_last()

    def step_of(loss: Callable[[nn.Module], Any], module: nn.Module, *, fused: bool) -> Way:
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-5, fused=fused)

        def step() -> float:
            value = loss(module)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            return float(value.item())

        return step

    def plain(module: Any) -> Any:
        return torch.stack(list(module.loss(last).values())).sum()

    def bf16(module: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return plain(module)

    slow = copy.deepcopy(model)
    first, second = (copy.deepcopy(model).to(memory_format=torch.channels_last) for _ in range(2))
    return {
        "straightforward": step_of(lambda m: straightforward.loss(m, batch), slow, fused=False),
        "fp32": step_of(plain, first, fused=True),
        "bf16": step_of(bf16, second, fused=True),
    }


def selection_ways(size: int, batch: Batch) -> dict[str, Way]:
    """The richest patch of every image."""
    return {
        "straightforward": lambda: straightforward.richest_patches(batch.images, size),
        "fp32": lambda: select_richest_patch(batch.images, size),
    }


def measure(ways: dict[str, Way], rounds: int) -> dict[str, Any]:
    """Time each way once a round; return seconds and ratios to the straightforward way."""
    results = {name: way() for name, way in ways.items()}  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    slow = seconds["straightforward"]
    out: dict[str, Any] = {}
    for name, times in seconds.items():
        median = statistics.median(times)
        out[name] = {
            "seconds": {"median": median, "min": min(times), "max": max(times)},
            "images_per_second": BATCH / median,
            "times_faster": statistics.median(a / b for a, b in zip(slow, times, strict=True)),
            "largest_difference": difference(results["straightforward"], results[name]),
        }
    return out


def difference(left: Any, right: Any) -> float:
    """Largest difference of what two ways computed."""
    left, right = (x[0] if isinstance(x, tuple) else x for x in (left, right))
    return float((torch.as_tensor(left) - torch.as_tensor(right)).abs().max())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mfclip", choices=["mfclip", "mfclip-small"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    # the straightforward way has no shared targets: the same loss for both
    spa = {"mode": "batch", "batch_size": BATCH, "shared_targets": False}
    model, batch = create_model(arguments.model, spa=spa), make_batch()
    size = model.vision_encoder.patch_size
    report: dict[str, Any] = {
        "command": "python benchmarks/speed.py",
        "model": arguments.model,
        "batch": BATCH,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        **asdict(provenance()),
        "patch_selection": measure(selection_ways(size, batch), arguments.rounds),
    }
    with torch.inference_mode():
        report["vision_and_verdict"] = measure(scoring_ways(model, batch), arguments.rounds)
    report["training_step"] = measure(training_ways(model, batch), arguments.rounds)
    text = json.dumps(report, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
