"""Where the time goes: the operators of judging and of a training step, by share.

    python benchmarks/profile_work.py --out benchmarks/results/profile.json

Shares of the time within torch, by torch's own profiler, on one thread, after a warm-up: they hold
on a busy machine too. The engines onnxruntime and OpenVINO fuse operators and are not looked into.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from machine.subject import Subject, made_batch, open_subject
from machine.timing import Way, pinned_threads
from machine.training import build_step
from mfclip.engines import load_engine
from mfclip.runtime.provenance import provenance

MODELS = ("mfclip", "mfclip-small")
PRECISIONS = ("fp32", "bf16")
SHOWN = 6
"""Operators that are named; the others are joined."""


def works(subject: Subject, batch_size: int) -> dict[str, Way]:
    """What is looked into, by name."""
    batch = made_batch(batch_size, subject.config.model.image_size)
    found: dict[str, Way] = {}
    for precision in PRECISIONS:
        engine, _ = load_engine(subject.weights, "torch", precision, "cpu")
        found[f"judging, {precision}"] = lambda engine=engine: engine.judge(batch.images)
        found[f"training step, {precision}"] = build_step(subject, precision, batch)
    return found


def shares(work: Way, repeats: int) -> dict[str, float]:
    """Operators by their own share of the time, the largest first."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            work()
    times = {
        event.key.removeprefix("aten::"): event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(times.values())
    ranked = sorted(((time / total, name) for name, time in times.items()), reverse=True)
    named = {name: share for share, name in ranked[:SHOWN]}
    return {**named, "others": 1 - sum(named.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    with pinned_threads(1):
        for model in options.models:
            with open_subject(model, options.batch_size) as subject:
                for name, work in works(subject, options.batch_size).items():
                    found = shares(work, options.repeats)
                    rows.append({"model": model, "work": name, "shares": found})
                    print(model, name, {key: round(share, 3) for key, share in found.items()})
    result = {
        "command": "python benchmarks/profile_work.py",
        "batch": options.batch_size,
        "threads": 1,
        **asdict(provenance()),
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
