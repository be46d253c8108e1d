"""How long an experiment will take on this machine, from a few measured steps of every row."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import chain, count

import torch

from mfclip.config import RunConfig
from mfclip.data.manifest import Manifest
from mfclip.evaluate.score import score_dataset
from mfclip.experiment.cell import trial_dataset
from mfclip.experiment.cells import Cell, Trial, train_manifest, trial_manifest
from mfclip.experiment.plan import Experiment
from mfclip.train.loop import Run
from mfclip.train.processes import join_processes

WARM_UP, STEPS, PICTURES = 1, 2, 16
"""Steps before the clock runs, steps and pictures that are timed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured for one row.

    Attributes:
        step: seconds a training step, waiting for data included.
        picture: seconds to read and judge one clean picture.
        damage: the same for each kind of damage, seconds.
        batches: steps an epoch.
    """

    step: float
    picture: float
    damage: dict[str, float]
    batches: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """One cell before it runs.

    Attributes:
        cell: which.
        train: pictures of its training split.
        val: pictures of its validation split.
        test: pictures over all its tests.
        seconds: it will take, roughly; NaN if a row cannot be measured.
        problem: why it cannot be measured; empty if it can.
    """

    cell: Cell
    train: int
    val: int
    test: int
    seconds: float
    problem: str = ""


def estimate_experiment(experiment: Experiment, *, device: str = "auto") -> list[Estimate]:
    """Count the pictures of each cell and measure a few steps of each row; writes nothing.

    Args:
        experiment: what would be run.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    speeds: dict[str, Speed | str] = {}
    found = []
    for cell in experiment.cells:
        config = experiment.config(cell)
        part = train_manifest(experiment.manifest, cell)
        tests = [(trial, trial_manifest(experiment.manifest, cell, trial)) for trial in cell.tests]
        if cell.row not in speeds:
            speeds[cell.row] = _measure(config, part, tests, device)
        found.append(_estimate(cell, config, part, tests, speeds[cell.row]))
    return found


def _measure(
    config: RunConfig, part: Manifest, tests: list[tuple[Trial, Manifest]], device: str
) -> Speed | str:
    """Return the speed of a row, or why it cannot run."""
    try:
        with join_processes(device) as processes:
            run = Run(config, part, part.root, processes)  # writes nothing until it starts
            batches = chain.from_iterable(map(run.loader.epoch, count()))
            for _ in range(WARM_UP):
                run.timed_step(batches)
            times = [sum(run.timed_step(batches)) for _ in range(STEPS)]
            kinds = {trial.perturbation: (trial, rows) for trial, rows in tests}
            pictures = {
                kind: _seconds_a_picture(run.detector, config, trial, rows)
                for kind, (trial, rows) in kinds.items()
            }
    except Exception as error:  # the run itself would meet it too, and go on with other rows
        return f"{type(error).__name__}: {error}"
    damage = {kind: seconds for kind, seconds in pictures.items() if kind is not None}
    return Speed(min(times), pictures[None], damage, len(run.loader))


def _seconds_a_picture(
    detector: torch.nn.Module, config: RunConfig, trial: Trial, rows: Manifest
) -> float:
    sizes = {"resize": config.data.resize, "image_size": config.model.image_size}
    few = Manifest(rows.samples[:PICTURES], rows.root)
    began = time.perf_counter()
    settings = config.evaluate
    score_dataset(
        detector,
        trial_dataset(few, trial, **sizes),
        batch_size=settings.batch_size,
        precision=settings.precision,
    )
    return (time.perf_counter() - began) / len(few)


def _estimate(
    cell: Cell,
    config: RunConfig,
    part: Manifest,
    tests: list[tuple[Trial, Manifest]],
    speed: Speed | str,
) -> Estimate:
    train, val = (len(part.split(name)) for name in ("train", "val"))
    test = sum(len(rows) for _, rows in tests)
    if isinstance(speed, str):
        return Estimate(cell, train, val, test, math.nan, speed)
    epochs = config.train.epochs
    validations = math.ceil(epochs / config.train.validate_every)
    seconds = epochs * speed.batches * speed.step + validations * val * speed.picture
    for trial, rows in tests:
        kind = trial.perturbation
        seconds += len(rows) * (speed.picture if kind is None else speed.damage[kind])
    return Estimate(cell, train, val, test, seconds)
