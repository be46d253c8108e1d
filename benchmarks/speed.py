"""Speed of the model against the straightforward way, in one run on one machine.

    python benchmarks/speed.py --model mfclip --out benchmarks/results/speed-mfclip.json

Every figure is the median of several rounds after a warm-up, the ways taking turns in each round,
so that a machine whose speed drifts drifts for all of them alike (`machine.timing`). The
ways: ``straightforward.py``; PyTorch as training has it (fp32, bf16); and the engines of
`mfclip.engines`, whose int8 graph is quantised on made pictures, which is enough for its speed.
Each row stands beside the target that was set for it.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import straightforward
from machine.inference import ENGINES
from machine.int8 import quantised_engine
from machine.roofline import (
    Ceiling,
    Flops,
    count_flops,
    fraction_reached,
    measure_ceilings,
    to_json,
)
from machine.subject import made_batch
from machine.timing import Timing, Way, pinned_threads, time_ways
from mfclip.batch import Batch
from mfclip.engines.load import build_engine
from mfclip.errors import MfclipError
from mfclip.model.build import create_model
from mfclip.model.patch_selector import select_richest_patch
from mfclip.runtime.memory import keep_freed_memory
from mfclip.runtime.provenance import provenance

BATCH = 24

TARGETS = {
    "patch_selection": {"fp32": 20.0},
    "vision_and_verdict": {"fp32": 5.0, "bf16": 12.0, "int8": 25.0},
    "training_step": {"fp32": 2.5, "bf16": 5.0},
}
"""How many times faster than the straightforward way the best way in each number type should be."""


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

    ways: dict[str, Way] = {"straightforward": straight, "fp32": lambda: fast(last.images)}
    return {**ways, "bf16": bf16, **engine_ways(model, batch.images)}


def engine_ways(model: nn.Module, images: Tensor) -> dict[str, Way]:
    """The engines that are installed, named ``openvino bf16`` and the like."""

    def judging(engine: Any) -> Way:
        return lambda: engine.judge(images).logits

    ways = {}
    for name, precision in ENGINES:
        try:
            ways[f"{name} {precision}"] = judging(open_engine(model, name, precision))
        except MfclipError as error:
            print(f"left out: {name} {precision}: {error}")
    return ways


def open_engine(model: nn.Module, name: Any, precision: Any) -> Any:
    """Put the model into an engine."""
    if precision == "int8":
        return quantised_engine(model.eval())
    return build_engine(model.eval(), name, precision, torch.device("cpu"))


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


def settle_training(ways: dict[str, Way], name: str) -> None:
    """Set what becomes of freed memory, and let the fast ways take a step that is not timed."""
    keep_freed_memory(keep=name != "straightforward")
    if name != "straightforward":
        ways[name]()


def measure(
    what: str, ways: dict[str, Way], rounds: int, flops: Flops | None, ceilings: dict[str, Ceiling]
) -> dict[str, Any]:
    """Time the ways in turn; give rates, ratios to the straightforward way, and the targets."""
    results = {name: way() for name, way in ways.items()}  # warm-up, and what they compute
    settle = partial(settle_training, ways) if what == "training_step" else None
    timings = time_ways(ways, rounds=rounds, settle=settle)
    slow = timings["straightforward"]
    out: dict[str, Any] = {}
    for name, timing in timings.items():
        precision = name.split()[-1]
        out[name] = {
            "seconds": timing.to_json(),
            "images_per_second": BATCH / timing.median,
            "times_faster": timing.times_faster(slow),
            "largest_difference": difference(results["straightforward"], results[name]),
            "fraction_of_ceiling": fraction(flops, timing, ceilings.get(precision)),
        }
    return {**out, "targets": judge(TARGETS[what], out)}


def fraction(flops: Flops | None, timing: Timing, ceiling: Ceiling | None) -> float | None:
    """Part of what the measured ceilings allow; None where there is no ceiling of that type."""
    if flops is None or ceiling is None:
        return None
    return fraction_reached(flops, timing.median, ceiling)


def judge(targets: dict[str, float], ways: dict[str, Any]) -> dict[str, Any]:
    """Set the fastest way of each number type beside its target."""
    found = {}
    for precision, target in targets.items():
        fitting = {name: way for name, way in ways.items() if name.split()[-1] == precision}
        best = max(fitting, key=lambda name: fitting[name]["times_faster"], default=None)
        found[precision] = {
            "target": target,
            "best": best,
            "reached": fitting[best]["times_faster"] if best else None,
        }
    return found


def difference(left: Any, right: Any) -> float:
    """Largest difference of what two ways computed."""
    left, right = (x[0] if isinstance(x, tuple) else x for x in (left, right))
    return float((torch.as_tensor(left) - torch.as_tensor(right)).abs().max())


def run(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Measure everything about one model."""
    torch.manual_seed(0)
    # the straightforward way has no shared targets: the same loss for both
    spa = {"mode": "batch", "batch_size": BATCH, "targets": "one-hot"}
    model, batch = create_model(name, spa=spa), made_batch(BATCH)
    size = model.vision_encoder.patch_size
    ceilings = measure_ceilings(torch.device("cpu"))
    with torch.no_grad():
        judging = count_flops(lambda: model.eval()(batch.images))
    model.train()
    training = training_ways(model, batch)
    report: dict[str, Any] = {
        "command": f"python benchmarks/speed.py --model {name}",
        "model": name,
        "batch": BATCH,
        "rounds": rounds,
        "threads": threads,
        **asdict(provenance()),
        "ceilings_flops_per_second": to_json(ceilings),
        "flops_of_a_batch": asdict(judging),
        "patch_selection": measure(
            "patch_selection", selection_ways(size, batch), 9 * rounds, None, ceilings
        ),
    }
    with torch.inference_mode():
        ways = scoring_ways(model, batch)
        report["vision_and_verdict"] = measure(
            "vision_and_verdict", ways, rounds, judging, ceilings
        )
    flops = count_flops(training_ways(copy.deepcopy(model), batch)["fp32"])
    report["training_step"] = measure("training_step", training, rounds, flops, ceilings)
    return report


def show(report: dict[str, Any]) -> None:
    """Print one line a way, and one a target."""
    for what in TARGETS:
        for name, way in report[what].items():
            if name != "targets":
                rate, times = way["images_per_second"], way["times_faster"]
                print(f"{what:20} {name:16} {rate:9.1f} images/s {times:7.2f} x")
        for precision, found in report[what]["targets"].items():
            reached = found["reached"]
            text = "not measured" if reached is None else f"{reached:.2f} x by {found['best']}"
            print(f"{what:20} {precision}: target {found['target']} x, reached {text}")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mfclip", choices=["mfclip", "mfclip-small"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with pinned_threads(arguments.threads):
        report = run(arguments.model, arguments.rounds, arguments.threads)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


if __name__ == "__main__":
    main()
