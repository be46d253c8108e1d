"""The estimate counts what the run will read, and follows the measured speed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfclip.experiment.cells import train_manifest, trial_manifest
from mfclip.experiment.estimate import Speed, _estimate, estimate_experiment
from mfclip.experiment.plan import Experiment

Planner = Callable[..., Experiment]


def test_pictures_are_counted_and_nothing_is_written(
    planner: Planner, made_faces: Path, base: dict[str, Any]
) -> None:
    base["model"]["noise"] |= {"patch_size": 128}  # of pictures of 64: MFCLIP cannot be built
    before = sorted(made_faces.parent.iterdir())
    broken, works = estimate_experiment(planner(seeds=[0]), device="cpu")
    assert (works.train, works.val, works.test) == (18, 9, 4 * 6)
    assert 0 < works.seconds < 600
    assert math.isnan(broken.seconds)
    assert "patch" in broken.problem
    assert sorted(made_faces.parent.iterdir()) == before


def test_time_is_steps_and_validations_and_tests(planner: Planner, base: dict[str, Any]) -> None:
    base["train"] |= {"epochs": 5, "validate_every": 2}
    found = planner(seeds=[0], rows=["MFCLIP"])
    cell = found.cells[0]
    part = train_manifest(found.manifest, cell)
    tests = [(trial, trial_manifest(found.manifest, cell, trial)) for trial in cell.tests]
    speed = Speed(step=10.0, picture=0.5, damage={"GB": 2.0}, batches=3)
    estimate = _estimate(cell, found.config(cell), part, tests, speed)
    # 5 epochs of 3 steps, 3 validations of 9 pictures, 2 tests of 6 clean and 6 blurred pictures
    assert estimate.seconds == pytest.approx(5 * 3 * 10 + 3 * 9 * 0.5 + 2 * 6 * (0.5 + 2))
