"""A small protocol over the made faces, and experiments of it that take a second a cell."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfclip.config import EvaluateSettings, build_config
from mfclip.data.manifest import read_manifest
from mfclip.evaluate.scores import ScoredSample, Scores
from mfclip.experiment.cell import measure
from mfclip.experiment.cells import Trial
from mfclip.experiment.plan import Experiment, plan_experiment
from mfclip.experiment.protocols import Protocol, load_protocol, plain_name
from mfclip.experiment.store import DESCRIPTION, SCHEMA, Store, write_json
from mfclip.labels import Labels
from mfclip.runtime.provenance import provenance

PROTOCOL = """
title = "Made faces"
data = "made faces"
models = ["MFCLIP", "DIRE"]
seeds = [0, 1]
units = ["frame", "video"]

[[rows]]
name = "image, alone"
overrides.model = { use_noise = false, use_text = false }

[[train]]
name = "A"
generator = ["A"]

[[test]]
name = "A"
generator = ["A"]

[[test]]
name = "B"
generator = ["B"]

[perturbations]
kinds = ["GB"]
levels = [5]
"""

Planner = Callable[..., Experiment]


@pytest.fixture
def protocol_file(tmp_path: Path) -> Path:
    path = tmp_path / "made.toml"
    path.write_text(PROTOCOL)
    return path


@pytest.fixture
def base(tiny_run: dict[str, Any]) -> dict[str, Any]:
    """Settings that all cells share: few and small steps, few resamples."""
    tree = copy.deepcopy(tiny_run)
    tree["evaluate"] = {"bootstrap": 50}
    return tree


@pytest.fixture
def planner(protocol_file: Path, made_faces: Path, base: dict[str, Any]) -> Planner:
    """Plan an experiment of the small protocol; keywords as in `plan_experiment`."""

    def plan(**choice: Any) -> Experiment:
        settings = choice.pop("base", base)
        manifest = choice.pop("manifest", None) or read_manifest(made_faces)
        return plan_experiment(load_protocol(protocol_file), manifest, settings, **choice)

    return plan


Storer = Callable[..., Store]


@pytest.fixture(scope="session")
def storer(tmp_path_factory: pytest.TempPathFactory) -> Storer:
    """Write the folder of an experiment with made scores instead of trained cells."""

    def store(
        name: str | Path, rows: list[str], *, train: str, seeds: tuple[int, ...] = (0,)
    ) -> Store:
        protocol = load_protocol(name)
        made = Store(tmp_path_factory.mktemp("experiment"))
        settings = build_config({}).model_dump(mode="json")
        shared = {"protocol": protocol.model_dump(mode="json"), "settings": settings}
        write_json(made.root / DESCRIPTION, {"schema": SCHEMA, "data": "feed", **shared})
        for row in rows:
            for seed in seeds:
                _write_cell(made, protocol, row, train, seed)
        return made

    return store


def made_scores(row: str, test: str, seed: int, count: int = 20) -> Scores:
    """Make scores of reals around 0.4 and fakes around 0.6 that depend on all arguments."""
    rng = np.random.default_rng(list(f"{row}{test}{seed}".encode()))
    samples = []
    for number in range(count):
        is_fake = number % 2 == 1
        score = float(np.clip(rng.normal(0.4 + 0.2 * is_fake, 0.2), 0, 1))
        labels = Labels(is_fake, *(("face_swap", "gan", test) if is_fake else ()))
        video = f"v{number // 4}{is_fake}"  # two frames each
        samples.append(ScoredSample(f"{number}.png", labels, "test", f"g{number}", video, score))
    return Scores(tuple(samples))


def _write_cell(made: Store, protocol: Protocol, row: str, train: str, seed: int) -> None:
    key = "__".join(map(plain_name, (row, train, f"seed{seed}")))
    folder = made.finished(key)
    tests = []
    damage = protocol.perturbations
    kinds = [(k, n) for k in damage.kinds for n in damage.levels] if damage else []
    for subset in protocol.test:
        if subset.name == train and not protocol.diagonal:
            continue
        for kind, level in [(None, 0), *kinds]:
            name = Trial(subset, kind, level).name
            place = folder / "tests" / plain_name(name)
            scores = made_scores(row, name, seed)
            scores.write(place / "scores.csv")
            for unit in protocol.units:
                settings = EvaluateSettings(bootstrap=10)
                evaluation = measure(scores, unit, settings, threshold=0.55)
                evaluation.write(place / f"metrics-{unit}.json")
            tests.append(
                {
                    "name": name, "subset": subset.name, "perturbation": kind, "level": level,
                    "folder": f"tests/{place.name}", "manifest": "beef", "images": {"real": 10},
                }
            )  # fmt: skip
    own = next(each.overrides for each in protocol.rows if each.name == row)
    prompts = own.get("model", {}).get("text", {})
    facts = {
        "overrides": {f"model.text.{key}": value for key, value in prompts.items()},
        "schema": SCHEMA, "key": key, "row": row, "train": train, "seed": seed,
        "config_fingerprint": "cafe", "pretrained": None, "model": "mfclip",
        "parameters": 1_500_000, "flops": 2_000_000_000, "epoch": 3,
        "validation": {"auc": 0.75, "threshold": 0.55}, "manifest": "feed", "device": "cpu",
        "images": {"train": {"real": 9, train: 4}, "val": {"real": 2, train: 2}},
        "provenance": asdict(provenance()), "finished": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    write_json(folder / "result.json", {**facts, "tests": tests})
    (folder / "config.toml").write_text(f'seed = {seed}\n[model]\nname = "<b>&"\n')
