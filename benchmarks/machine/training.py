"""A training step's speed and memory: loss, gradients and optimiser, as training does them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from machine.memory import peak_memory
from machine.record import Row
from machine.roofline import Ceiling, count_flops
from machine.subject import Subject, made_batch, random_detector
from machine.timing import Way, time_ways
from mfclip.batch import Batch
from mfclip.runtime.parallel import Progress, silent
from mfclip.train.optimiser import build_optimizer
from mfclip.train.step import TrainingStep

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""Number types and what the configuration calls training in them."""


def measure_training(
    subject: Subject,
    device: torch.device,
    *,
    batch_size: int,
    rounds: int,
    ceilings: Mapping[str, Ceiling],
    progress: Progress = silent,
) -> list[Row]:
    """Time one step in fp32 and in bf16, in turn, and count its operations.

    The batch lies on the device already: reading pictures is measured by itself.

    Args:
        subject: the detector; its weights are random.
        device: where it trains.
        batch_size: pictures a step.
        rounds: steps that are timed in each type.
        ceilings: of the device; empty leaves the fractions out.
        progress: told after every round.
    """
    batch = made_batch(batch_size, subject.config.model.image_size).to(device)
    steps = {
        f"training step, {name}, batch {batch_size}": build_step(subject, name, batch)
        for name in PRECISIONS
    }
    timings = time_ways(steps, rounds=rounds, device=device, progress=progress)
    flops = count_flops(next(iter(steps.values())))
    return [
        Row(
            title,
            batch_size,
            timing,
            flops=flops,
            precision=precision,
            ceiling=ceilings.get(precision),
            peak_memory=peak_memory(steps[title], device),
        )
        for (title, timing), precision in zip(timings.items(), PRECISIONS, strict=True)
    ]


def build_step(subject: Subject, precision: str, batch: Batch) -> Way:
    """Make one training step on a batch, in ``fp32`` or ``bf16``; it returns the loss."""
    settings = subject.config.train
    detector: Any = random_detector(subject.config.model).to(batch.images.device).train()
    if settings.channels_last:
        detector.to(memory_format=torch.channels_last)
        batch = batch.channels_last()
    step = TrainingStep(detector, PRECISIONS[precision])
    optimizer = build_optimizer(detector, settings)

    def train() -> float:
        loss = torch.stack(list(step(batch).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return train
