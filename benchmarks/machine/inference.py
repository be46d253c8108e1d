"""Scoring's speed: every engine that this machine has, and on a GPU the batch that suits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from machine.int8 import quantised_engine
from machine.memory import peak_memory
from machine.record import Row
from machine.roofline import Ceiling, Flops, count_flops
from machine.subject import Subject, made_images
from machine.timing import Timing, Way, time_ways
from mfclip.engines import Engine, load_engine
from mfclip.errors import ConfigError, MissingExtraError, WeightsError
from mfclip.runtime.parallel import Progress, silent

ENGINES = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
"""Engine and number type of each row; those that are not installed are left out and named."""

WORTH = 1.03
"""A larger batch is tried as long as the last one was this many times faster."""

T = TypeVar("T")


def open_engines(subject: Subject, device: torch.device) -> tuple[dict[str, Engine], list[str]]:
    """Load the detector in every engine.

    Returns:
        The engines by name, and a line for each that is not to be had here, saying why.
    """
    engines, absent = {}, []
    for name, precision in ENGINES:
        title = f"{name} {precision}"
        try:
            engines[title] = _open(subject, name, precision, device)
        except (ConfigError, MissingExtraError, WeightsError) as error:
            absent.append(f"{title}: {error}")
    return engines, absent


def _open(subject: Subject, name: str, precision: str, device: torch.device) -> Engine:
    if precision == "int8" and device.type == "cpu":
        return quantised_engine(subject.load())
    return load_engine(subject.weights, engine=name, precision=precision, device=str(device))[0]


def measure_inference(
    subject: Subject,
    device: torch.device,
    *,
    batch_size: int,
    rounds: int,
    ceilings: Mapping[str, Ceiling],
    progress: Progress = silent,
) -> tuple[list[Row], list[str]]:
    """Time a batch in every engine, in turn; on a GPU also search each one's best batch.

    Args:
        subject: the detector.
        device: where it computes.
        batch_size: pictures judged together.
        rounds: how often each engine is timed.
        ceilings: of the device; empty leaves the fractions out.
        progress: told after every round.

    Returns:
        The rows, and a line for each engine that could not be measured.
    """
    engines, absent = open_engines(subject, device)
    flops = flops_of_image(subject)
    images = made_images(batch_size, subject.config.model.image_size).to(device)
    with torch.inference_mode():
        ways = {title: _judging(engine, images) for title, engine in engines.items()}
        timings = time_ways(ways, rounds=rounds, warm_up=2, device=device, progress=progress)
    rows = [
        _row(title, batch_size, timings[title], engine, flops, ceilings)
        for title, engine in engines.items()
    ]
    if device.type != "cpu":
        rows += [
            best_row(title, engine, flops, ceilings, batch_size, device, rounds)
            for title, engine in engines.items()
        ]
    return rows, absent


def best_row(
    title: str,
    engine: Engine,
    flops: Flops,
    ceilings: Mapping[str, Ceiling],
    start: int,
    device: torch.device,
    rounds: int,
) -> Row:
    """Double the batch until that brings nothing more or memory ends; give the fastest row."""

    def measure(batch: int) -> tuple[float, Row]:
        images = made_images(1, engine.image_size).to(device).repeat(batch, 1, 1, 1)
        work = _judging(engine, images)
        with torch.inference_mode():
            (timing,) = time_ways({title: work}, rounds=rounds, device=device).values()
            memory = peak_memory(work, device)
        row = _row(title, batch, timing, engine, flops, ceilings, memory)
        return row.images_per_second, row

    return search_batch(measure, start)


def search_batch(measure: Callable[[int], tuple[float, T]], start: int) -> T:
    """Double a batch as long as it is worth it.

    Args:
        measure: gives the rate at a batch size and what belongs to it; may run out of memory.
        start: first batch size; it must fit.

    Returns:
        What belongs to the highest rate.

    Example:
        >>> search_batch(lambda batch: (min(batch, 64), batch), 16)
        64
    """
    rate, best = measure(start)
    for doublings in count(1):
        try:
            larger, found = measure(start * 2**doublings)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        worth_it = larger > WORTH * rate
        if larger > rate:
            rate, best = larger, found
        if not worth_it:
            break
    return best


def flops_of_image(subject: Subject) -> Flops:
    """Count the operations of judging one picture."""
    detector = subject.load()
    image = made_images(1, subject.config.model.image_size)
    with torch.no_grad():
        return count_flops(lambda: detector(image))


def _judging(engine: Engine, images: Float[Tensor, "b 3 h w"]) -> Way:
    return lambda: engine.judge(images)


def _row(
    title: str,
    batch: int,
    timing: Timing,
    engine: Engine,
    flops: Flops,
    ceilings: Mapping[str, Ceiling],
    memory: int | None = None,
) -> Row:
    return Row(
        f"{title}, batch {batch}",
        batch,
        timing,
        flops=Flops(flops.convolution * batch, flops.product * batch),
        precision=engine.precision,
        ceiling=ceilings.get(engine.precision),
        peak_memory=memory,
        best_batch=memory is not None,
    )
