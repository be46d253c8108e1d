"""The whole chain through the commands: folders, manifest, run, tables, weights, verdicts."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.config import build_config, dump_toml
from mfclip.errors import ConfigError, ManifestError, WeightsError


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(made_faces: Path, tmp_path: Path) -> Path:
    """The made faces sorted into real/ and fake/, as a user's would be."""
    with made_faces.open(newline="") as file:
        for row in csv.DictReader(file):
            place = tmp_path / "faces" / row["label"]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(made_faces.parent / row["path"], place)
    return tmp_path / "faces"


def test_from_folders_to_verdicts(folder: Path, tiny_run: dict[str, Any], tmp_path: Path) -> None:
    manifest, run, results = tmp_path / "faces.csv", tmp_path / "run", tmp_path / "results"
    done = _run("data", "scan", "folders", folder, "-o", manifest)
    assert done.exit_code == 0, done.output

    tiny_run["data"] |= {"manifest": str(manifest)}
    tiny_run["train"] |= {"epochs": 8}
    (tmp_path / "tiny.toml").write_text(dump_toml(build_config(tiny_run)))
    done = _run("train", "--config", tmp_path / "tiny.toml", "--out", run, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "best weights in" in done.output

    weights = run / "best.safetensors"
    done = _run(
        "evaluate", "--manifest", manifest, "--weights", weights, "--out", results,
        "--fit-split", "val", "--set", "evaluate.bootstrap=50", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads((results / "metrics.json").read_text())
    with (results / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    overall = report["rows"][0]
    assert overall["num_real"] + overall["num_fake"] == len(rows)
    # the area under the curve, counted pair by pair
    fakes = [float(row["score"]) for row in rows if row["target"] == "1"]
    reals = [float(row["score"]) for row in rows if row["target"] == "0"]
    wins = sum((f > r) + 0.5 * (f == r) for f in fakes for r in reals)
    assert overall["figures"]["auc"] == pytest.approx(wins / len(fakes) / len(reals))
    assert overall["figures"]["auc"] == 1.0  # the grid is plain to see

    finished = tmp_path / "finished.safetensors"
    done = _run("release", run, "--manifest", manifest, "--out", finished, "--trained-on", "grids")
    assert done.exit_code == 0, done.output

    picture = next((folder / "fake").iterdir())
    done = _run("predict", picture, "--whole", "--weights", finished, "--json", "-",
                "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["model"]["trained_on"] == "grids"
    assert answer["predictions"][0]["verdict"] == "uncertain"  # no face is in the made pictures
    assert answer["predictions"][0]["score"] > 0.5


def test_a_users_mistakes_are_named(made_faces: Path, tmp_path: Path) -> None:
    cases = [
        (["train", "--set", "train.learning_rate=1"], ConfigError, "unknown key"),
        (["train", "--set", "train.epochs=many"], ConfigError, "'train.epochs'"),
        (["train", "--config", tmp_path / "no.toml"], ConfigError, "no configuration at"),
        (["evaluate", "--manifest", tmp_path / "no.csv"], ManifestError, "no manifest at"),
        (
            ["evaluate", "--manifest", made_faces, "--weights", tmp_path / "no.safetensors"],
            WeightsError,
            "no weights at",
        ),
        (
            ["release", tmp_path, "--manifest", made_faces, "--out", tmp_path / "x.safetensors"],
            WeightsError,
            "train first",
        ),
    ]
    for arguments, kind, words in cases:
        done = _run(*arguments)
        assert isinstance(done.exception, kind), done.output
        assert words in str(done.exception)


def test_threshold_is_never_fitted_on_what_it_measures(made_faces: Path) -> None:
    done = _run("evaluate", "--manifest", made_faces, "--fit-split", "test")
    assert isinstance(done.exception, ConfigError)
    assert "says nothing" in str(done.exception)
