"""Cells that are run, stopped, killed, broken and run again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.config import build_config, dump_toml, load_config
from mfclip.detectors import load_detector
from mfclip.errors import ConfigError
from mfclip.evaluate.metrics import auc
from mfclip.evaluate.run import load_evaluator
from mfclip.evaluate.scores import read_scores
from mfclip.experiment.plan import Experiment
from mfclip.experiment.run import run_experiment, title
from mfclip.experiment.store import Store
from mfclip.train.log import RunLog
from mfclip.train.loop import LAST
from mfclip.weights import BEST

Planner = Callable[..., Experiment]
KEY = "MFCLIP__A__seed0"
CODE = "import torch; torch.set_num_threads(1); from mfclip.cli import main; main()"


def test_a_cell_is_kept_with_all_that_its_figures_rest_on(planner: Planner, tmp_path: Path) -> None:
    found = planner(rows=["MFCLIP"], seeds=[0])
    lines: list[str] = []
    outcome = run_experiment(found, tmp_path / "out", device="cpu", notify=lines.append)
    assert (outcome.finished, outcome.kept, outcome.failed) == ([KEY], [], {})
    assert lines[0] == "[1/1] MFCLIP, trained on A, seed 0"

    store = Store(tmp_path / "out")
    folder = store.finished(KEY)
    assert not store.unfinished(KEY).exists()
    assert not (folder / "training" / LAST).exists()
    config = load_config(folder / "config.toml")
    assert config.fingerprint == found.config(found.cells[0]).fingerprint
    assert config.data.manifest is None  # a report must not name the user's folders

    (result,) = store.results()
    assert (result["row"], result["train"], result["seed"]) == ("MFCLIP", "A", 0)
    assert result["images"] == {"train": {"A": 6, "real": 12}, "val": {"A": 3, "real": 6}}
    detector, card = load_detector(folder / "training" / BEST)
    assert result["parameters"] == sum(p.numel() for p in detector.parameters())
    assert [test["name"] for test in result["tests"]] == ["A", "A, GB 5", "B", "B, GB 5"]

    for test in result["tests"]:
        assert test["images"] == {"real": 3, test["subset"]: 3}  # 1:1
        place = folder / test["folder"]
        scores = read_scores(place / "scores.csv")
        metrics = json.loads((place / "metrics-frame.json").read_text())
        assert metrics["rows"][0]["figures"]["auc"] == auc(scores.score, scores.target)
        assert metrics["rows"][0]["fitted_threshold"] == card.threshold
        # stills are their own videos, so both units agree
        video = json.loads((place / "metrics-video.json").read_text())
        assert video["rows"] == metrics["rows"]
    sharp, blurred = (
        read_scores(folder / "tests" / name / "scores.csv") for name in ("A", "A_GB_5")
    )
    assert [s.path for s in sharp] == [s.path for s in blurred]
    assert (sharp.score != blurred.score).any()


def test_scores_are_those_of_mfclip_evaluate(planner: Planner, tmp_path: Path) -> None:
    found = planner(rows=["MFCLIP"], seeds=[0], tests=["B"])
    run_experiment(found, tmp_path / "out", device="cpu")
    folder = Store(tmp_path / "out").finished(KEY)
    ours = read_scores(folder / "tests" / "B" / "scores.csv")
    weights = folder / "training" / BEST
    load_evaluator(weights).run(found.manifest, tmp_path / "evaluated")
    whole = {s.path: s.score for s in read_scores(tmp_path / "evaluated" / "scores.csv")}
    assert [s.score for s in ours] == pytest.approx([whole[s.path] for s in ours], abs=1e-6)


def test_finished_cells_are_never_run_again(planner: Planner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_experiment(planner(rows=["image, alone"], seeds=[0]), out, device="cpu")
    before = _contents(out)
    outcome = run_experiment(planner(rows=["image, alone"], seeds=[0]), out, device="cpu")
    assert (len(outcome.kept), len(outcome.finished)) == (1, 0)
    assert _contents(out) == before
    outcome = run_experiment(planner(rows=["image, alone"]), out, device="cpu")  # seeds 0 and 1
    assert (outcome.kept, outcome.finished) == (
        ["image_alone__A__seed0"], ["image_alone__A__seed1"],
    )  # fmt: skip


def test_an_equal_cell_of_another_experiment_is_not_trained_again(
    planner: Planner, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run_experiment(planner(rows=["MFCLIP"], seeds=[0], tests=["B"]), first, device="cpu")
    lines: list[str] = []
    both = planner(rows=["MFCLIP"], tests=["B"])  # seeds 0 and 1
    run_experiment(both, second, device="cpu", notify=lines.append, reuse=[first])
    assert [line for line in lines if "reused" in line] == [
        f"same training as first/{KEY}, which is reused"
    ]
    ours, other = (Store(second).finished(key) for key in (KEY, "MFCLIP__A__seed1"))
    theirs = Store(first).finished(KEY)
    assert _weights(ours) == _weights(theirs) != _weights(other)
    assert (ours / "tests/B/scores.csv").read_text() == (theirs / "tests/B/scores.csv").read_text()
    origin = {result["key"]: result["trained_in"] for result in Store(second).results()}
    assert origin == {KEY: f"first/{KEY}", "MFCLIP__A__seed1": None}


def _weights(cell: Path) -> bytes:
    return (cell / "training" / BEST).read_bytes()


def test_a_failure_keeps_its_reason_and_loses_no_other_cell(
    planner: Planner, base: dict[str, Any], tmp_path: Path
) -> None:
    base["model"]["noise"] |= {"patch_size": 128}  # of pictures of 64
    found = planner(seeds=[0], tests=["B"])
    out = tmp_path / "out"
    outcome = run_experiment(found, out, device="cpu")
    assert list(outcome.failed) == [KEY]
    assert outcome.finished == ["image_alone__A__seed0"]
    assert "ConfigError" in outcome.failed[KEY]
    assert Store(out).failures() == outcome.failed
    trace = json.loads((out / "unfinished" / KEY / "failure.json").read_text())["traceback"]
    assert "Traceback" in trace


def test_what_differs_from_the_folders_cells_is_refused(
    planner: Planner, base: dict[str, Any], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.begin(planner(seeds=[0]))
    store.begin(planner(rows=["MFCLIP"], seeds=[5]))  # more of the same
    base["data"] |= {"cache": False}
    store.begin(planner())  # the same results
    with pytest.raises(ConfigError, match="an experiment with another tests; give another --out"):
        store.begin(planner(tests=["B"]))
    base["train"]["lr"] = 1e-4
    with pytest.raises(ConfigError, match="another settings"):
        store.begin(planner())


def test_a_cell_that_another_process_holds_is_left_to_it(planner: Planner, tmp_path: Path) -> None:
    found, store = planner(seeds=[0], tests=["B"]), Store(tmp_path)
    lines: list[str] = []
    with store.claim(KEY) as is_mine:
        assert is_mine
        outcome = run_experiment(found, tmp_path, device="cpu", notify=lines.append)
    assert (outcome.finished, outcome.elsewhere) == (["image_alone__A__seed0"], [KEY])
    assert f"[1/2] {title(found.cells[0])}: another process works on it" in lines
    outcome = run_experiment(found, tmp_path, device="cpu")  # the other has ended without a result
    assert (outcome.finished, outcome.elsewhere) == ([KEY], [])


def test_a_cell_that_failed_in_another_process_is_not_tried_by_each(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, store = planner(rows=["MFCLIP"], seeds=[0], tests=["B"]), Store(tmp_path)
    store.begin(found)
    began = store.now()
    assert abs(began - time.time()) < 60
    store.fail(KEY, ValueError("a reason"))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "now", lambda _: began - 1)
        outcome = run_experiment(found, tmp_path, device="cpu")
    assert outcome.failed == {KEY: "ValueError: a reason"}
    monkeypatch.setattr(Store, "now", lambda _: began + 1)  # a later command
    assert run_experiment(found, tmp_path, device="cpu").finished == [KEY]
    assert store.failures() == {}


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_share_the_cells(
    protocol_file: Path, made_faces: Path, base: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(dump_toml(build_config(base)))
    command = [
        sys.executable, "-c", CODE, "experiment", "run", str(protocol_file),
        "--manifest", str(made_faces), "--config", str(tmp_path / "tiny.toml"),
        "--out", str(tmp_path / "out"), "--device", "cpu", "--seeds", "0,1", "--tests", "B",
    ]  # fmt: skip
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=900)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    counts = [int(re.search(r"(\d+) cells finished", text)[1]) for text in said]
    assert sum(counts) == len(Store(tmp_path / "out").results()) == 4  # each cell once
    assert not list((tmp_path / "out" / "unfinished").iterdir())


def test_ctrl_c_says_that_the_same_command_goes_on(
    protocol_file: Path,
    made_faces: Path,
    base: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tiny.toml").write_text(dump_toml(build_config(base)))
    command = [
        "experiment", "run", str(protocol_file), "--manifest", str(made_faces),
        "--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out"),
        "--device", "cpu", "--seeds", "0", "--tests", "B", "--rows", "MFCLIP",
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "advance", lambda _: os.kill(os.getpid(), signal.SIGINT))
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 130
    assert "stopped by SIGINT after step 1" in done.stderr
    assert "give the same command again to go on" in done.stderr
    done = CliRunner().invoke(app, command)
    assert "1 cells finished, 0 finished before, 0 failed" in done.stdout


def test_several_processes_are_refused(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without torchrun"):
        run_experiment(planner(), tmp_path)


@pytest.mark.slow
def test_killed_twice_inside_a_cell_it_goes_on_to_the_same_scores(
    planner: Planner,
    protocol_file: Path,
    made_faces: Path,
    base: dict[str, Any],
    tmp_path: Path,
) -> None:
    base["train"] |= {"epochs": 6, "checkpoint_every": 3}
    base["model"]["dropout"] = 0.3
    found = planner(base=base, rows=["MFCLIP"], seeds=[0])
    run_experiment(found, tmp_path / "whole", device="cpu")

    (tmp_path / "tiny.toml").write_text(dump_toml(build_config(base)))
    command = [
        sys.executable, "-c", CODE, "experiment", "run", str(protocol_file),
        "--manifest", str(made_faces), "--config", str(tmp_path / "tiny.toml"),
        "--out", str(tmp_path / "killed"), "--device", "cpu", "--rows", "MFCLIP", "--seeds", "0",
    ]  # fmt: skip
    cell = tmp_path / "killed" / "unfinished" / KEY
    for awaited in (cell / "training" / LAST, cell / "tests" / "A" / "scores.csv"):
        _kill_once_there(command, awaited)
        assert not Store(tmp_path / "killed").is_finished(KEY)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 cells finished, 0 finished before, 0 failed" in done.stdout
    scores = [
        {p.parent.name: p.read_bytes() for p in (tmp_path / name).rglob("scores.csv")}
        for name in ("whole", "killed")
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 4


def _kill_once_there(command: list[str], awaited: Path) -> None:
    """Start a command and kill it as soon as it has written a file."""
    victim = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not awaited.exists() and time.monotonic() < end:
        assert victim.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(60)


def test_stopped_between_result_and_move_nothing_is_trained_again(
    planner: Planner, tmp_path: Path
) -> None:
    found = planner(rows=["image, alone"], seeds=[0], tests=["B"])
    run_experiment(found, tmp_path, device="cpu")
    store, key = Store(tmp_path), found.cells[0].key
    before = _contents(store.finished(key))
    store.unfinished(key).parent.mkdir(exist_ok=True)
    shutil.move(store.finished(key), store.unfinished(key))
    assert run_experiment(found, tmp_path, device="cpu").finished == [key]
    assert _contents(store.finished(key)) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
