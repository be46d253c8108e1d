"""Patch selection's speed: the richest patch of every picture, for each size of Table VII."""

from __future__ import annotations

import torch

from machine.record import Row
from machine.subject import made_images
from machine.timing import Way, time_ways
from mfclip.model.patch_selector import select_richest_patch
from mfclip.runtime.parallel import Progress, silent

SIZES = (112, 56, 28)
"""Patch sizes in pixels; 112, four patches a picture, is the paper's."""

IMAGE_SIZE = 224


def measure_patches(
    device: torch.device, *, batch_size: int, rounds: int, progress: Progress = silent
) -> list[Row]:
    """Time the selection at several patch sizes, in turn.

    Args:
        device: where the pictures lie and stay.
        batch_size: pictures at a time.
        rounds: how often each size is timed.
        progress: told after every round.
    """
    images = made_images(batch_size, IMAGE_SIZE).to(device)

    def select(size: int) -> Way:
        return lambda: select_richest_patch(images, size)

    ways = {f"patches of {size} px, batch {batch_size}": select(size) for size in SIZES}
    with torch.inference_mode():
        timings = time_ways(ways, rounds=rounds, warm_up=2, device=device, progress=progress)
    return [Row(title, batch_size, timing) for title, timing in timings.items()]
