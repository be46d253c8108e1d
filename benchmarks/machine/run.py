"""The benchmark: the parts that were asked for, one after the other, on one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from machine.feed import measure_feed
from machine.inference import measure_inference
from machine.patches import measure_patches
from machine.record import Measurements, Row
from machine.roofline import Ceiling, measure_ceilings
from machine.subject import open_subject
from machine.timing import pinned_threads
from machine.training import measure_training
from mfclip.runtime.device import find_device
from mfclip.runtime.parallel import Progress, silent

Part = Literal["inference", "training", "data", "patch"]

PARTS: tuple[Part, ...] = ("inference", "training", "data", "patch")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for.

    Attributes:
        model: a detector's name (random weights), a weight file, a run's folder or a hub id.
        batch_size: pictures at a time.
        threads: torch's on a CPU; None leaves what is set.
        rounds: how often each thing is timed.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        feed_images: pictures a round of reading.
    """

    model: str = "mfclip"
    batch_size: int = 24
    threads: int | None = None
    rounds: int = 7
    device: str = "auto"
    feed_images: int = 480

    def quick(self) -> Settings:
        """Return settings that take a fraction of the time, for a first look."""
        return Settings(self.model, self.batch_size, self.threads, 3, self.device, 96)


def measure(parts: Sequence[Part], settings: Settings, progress: Progress = silent) -> Measurements:
    """Measure the parts, arithmetic first.

    Args:
        parts: out of `PARTS`.
        settings: what with.
        progress: told after every round.

    Raises:
        ConfigError: no such device.
        WeightsError: no such detector or weights.
    """
    device = find_device(settings.device)
    batch_size, rounds = settings.batch_size, settings.rounds
    with pinned_threads(settings.threads) as threads:
        found, ceilings, absent = _arithmetic(parts, device, settings, progress)
        if "data" in parts:
            found["data"] = measure_feed(
                batch_size=batch_size,
                images=settings.feed_images,
                rounds=rounds,
                progress=progress,
            )
        if "patch" in parts:
            found["patch"] = measure_patches(
                device, batch_size=batch_size, rounds=rounds, progress=progress
            )
    used = {**asdict(settings), "threads": threads, "device": str(device)}
    return Measurements(used, ceilings, found, absent)


def _arithmetic(
    parts: Sequence[Part], device: torch.device, settings: Settings, progress: Progress
) -> tuple[dict[str, list[Row]], dict[str, Ceiling], list[str]]:
    """Measure what needs a detector, and the ceilings to hold it against."""
    found: dict[str, list[Row]] = {}
    absent: list[str] = []
    if not {"inference", "training"} & set(parts):
        return found, {}, absent
    with open_subject(settings.model, settings.batch_size) as subject:
        ceilings = measure_ceilings(device, rounds=settings.rounds, progress=progress)
        common: dict[str, Any] = {
            "batch_size": settings.batch_size,
            "rounds": settings.rounds,
            "ceilings": ceilings,
            "progress": progress,
        }
        if "inference" in parts:
            found["inference"], absent = measure_inference(subject, device, **common)
        if "training" in parts:
            found["training"] = measure_training(subject, device, **common)
    return found, ceilings, absent
