"""Forty-eight made faces, one of them absent, and a tiny detector to score them with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers import TINY
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.detectors import build_detector, save_detector
from mfclip.scale.loop import Limits, LocalPool
from mfclip.scale.place import Place
from mfclip.scale.run import Scoring, begin
from mfclip.scale.source import open_source
from mfclip.scale.worker import ScoreJob, Worker

ROWS = 48
ABSENT = 17
"""The row whose picture is not there."""


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of a few thousand parameters, whose scores differ between pictures."""
    settings = build_config({"model": TINY}).model
    torch.manual_seed(5)
    detector = build_detector(settings)
    torch.nn.init.normal_(detector.head[-1].weight, std=1.0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(detector, settings, path, card=Card(resize=36))
    return path


@pytest.fixture
def manifest(made_faces: Path, tmp_path: Path) -> Path:
    """The made faces in a folder of their own, without the one of row `ABSENT`."""
    shutil.copytree(made_faces.parent, tmp_path / "faces")
    (tmp_path / "faces" / f"{ABSENT}.png").unlink()
    return tmp_path / "faces" / "manifest.csv"


Begin = Callable[..., tuple[ScoreJob, Scoring]]


@pytest.fixture
def start(weights: Path, tmp_path: Path) -> Begin:
    """Plan a run over a source, eight rows a part, into ``tmp_path / out``."""

    def start(source: Path, out: str = "out", **changes: object) -> tuple[ScoreJob, Scoring]:
        opened = open_source(str(source), rows_per_part=8)
        place = Place(out if "://" in out else str(tmp_path / out))
        job = ScoreJob(
            out=str(place), root=opened.root, kind=opened.kind, faces="whole", rows_per_part=8,
            weights=str(weights), engine="torch", device="cpu", batch_size=4,
        )  # fmt: skip
        job = replace(job, **changes)  # type: ignore[arg-type]
        run = job.run_of(job.load())
        return replace(job, key=run.key), begin(opened, str(source), place, run)

    return start


@pytest.fixture
def score(start: Begin) -> Callable[..., list[object]]:
    """Plan and score in this process; return what was reported."""

    def score(source: Path, out: str = "out", **changes: object) -> list[object]:
        job, scoring = start(source, out, **changes)
        reports: list[object] = []
        scoring.score(LocalPool(job, Worker), Limits(), reports.append)
        return reports

    return score
