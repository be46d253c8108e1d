"""Signals, locks and changed data: a run ends well, is not disturbed, and goes on with its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.config import build_config, dump_toml
from mfclip.errors import ConfigError, ManifestError
from mfclip.runtime.lock import try_lock
from mfclip.train.log import RunLog
from mfclip.train.loop import LAST, LOCK, train
from mfclip.train.stop import Stopped, StopRequest
from mfclip.weights import read_tensors


def assert_same_state(left: Path, right: Path) -> None:
    first, second = read_tensors(left), read_tensors(right)
    assert first[1]["progress"] == second[1]["progress"]
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=0)


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send this process a signal while it takes a step."""
    advance, count = RunLog.advance, 0

    def count_and_send(log: RunLog) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), number)
        advance(log)

    monkeypatch.setattr(RunLog, "advance", count_and_send)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(
    tiny_run: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
) -> None:
    config = build_config(tiny_run)
    (tmp_path / "run.toml").write_text(dump_toml(config))
    command = ["train", "--config", tmp_path / "run.toml", "--out", tmp_path / "run"]
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_at(patch, 3, number)
        done = CliRunner().invoke(app, [*map(str, command), "--device", "cpu"])
    assert done.exit_code == status
    assert f"stopped by {number.name} after step 3 of 8" in done.stderr
    assert "with --resume goes on from the last checkpoint" in done.stderr
    assert signal.getsignal(number) is before
    train(config, tmp_path / "run", device="cpu", resume=True)
    train(config, tmp_path / "whole", device="cpu")
    assert_same_state(tmp_path / "run" / LAST, tmp_path / "whole" / LAST)


def test_a_run_stopped_in_its_validation_validates_when_it_goes_on(
    tiny_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_run["evaluate"] = {"batch_size": 4}
    config = build_config(tiny_run)

    def stop(log: RunLog, line: str) -> None:
        if line.startswith("validation: 4 of 12"):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "tell", stop)
        with pytest.raises(Stopped, match="after step 4 of 8"):
            train(config, tmp_path / "run", device="cpu")
    assert '"kind": "val"' not in (tmp_path / "run" / "log.jsonl").read_text()
    train(config, tmp_path / "run", device="cpu", resume=True)
    train(config, tmp_path / "whole", device="cpu")
    assert_same_state(tmp_path / "run" / LAST, tmp_path / "whole" / LAST)


def test_a_second_interrupt_ends_at_once() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with StopRequest(patient=True) as stop:  # torchrun passes each one on twice
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT


@pytest.mark.slow
def test_a_group_signal_leaves_the_loaders_to_the_last_step(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    tiny_run["data"]["workers"] = 2
    tiny_run["train"]["epochs"] = 500
    (tmp_path / "run.toml").write_text(dump_toml(build_config(tiny_run)))
    command = [sys.executable, "-m", "mfclip", "train", "--config", tmp_path / "run.toml"]
    command += ["--out", tmp_path / "run", "--device", "cpu"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = tmp_path / "run" / "log.jsonl"
    until = time.monotonic() + 300
    while not (log.exists() and '"train"' in log.read_text()):
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 143, stderr
    assert "stopped by SIGTERM" in stderr
    assert (tmp_path / "run" / LAST).exists()


def test_two_trainings_in_one_folder_are_refused(
    tiny_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mfclip.train.loop.LOCK_WAIT", 0.0)
    config = build_config(tiny_run)
    with try_lock(tmp_path / LOCK) as is_mine:
        assert is_mine
        with pytest.raises(ConfigError, match=r"another process trains in .*; wait for it, end it"):
            train(config, tmp_path, device="cpu", resume=True)
    assert train(config, tmp_path, device="cpu", resume=True, max_steps=1).step == 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_swapped_labels_are_refused_on_resume(
    tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path, split: str
) -> None:
    rows = [row.split(",", 1) for row in made_faces.read_text().splitlines()]
    real = next(n for n, (_, kind) in enumerate(rows) if kind.startswith("real") and split in kind)
    manifest = tmp_path / "manifest.csv"
    tiny_run["data"] |= {"manifest": str(manifest), "root": str(made_faces.parent)}
    manifest.write_text(made_faces.read_text())
    config = build_config(tiny_run)
    train(config, tmp_path / "run", device="cpu", max_steps=1)
    # the next row is a forgery of the same split
    rows[real][1], rows[real + 1][1] = rows[real + 1][1], rows[real][1]
    manifest.write_text("\n".join(map(",".join, rows)) + "\n")
    with pytest.raises(ManifestError, match=r"run on other data: .*labels.*give another --out"):
        train(config, tmp_path / "run", device="cpu", resume=True)
    manifest.write_text(made_faces.read_text().replace("g47", "somebody"))  # tests, not trains
    assert train(config, tmp_path / "run", device="cpu", resume=True, max_steps=2).step == 2


def test_max_steps_of_the_command_says_how_to_go_on(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(dump_toml(build_config(tiny_run)))
    command = ["train", "--config", tmp_path / "run.toml", "--out", tmp_path / "run"]
    words = [*map(str, command), "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--max-steps", "2"])
    assert done.exit_code == 0, done.output
    assert "2 steps; checkpoint in" in done.stdout
    assert "--resume" in done.stdout
    done = CliRunner().invoke(app, [*words, "--resume"])
    assert "2 epochs, 8 steps; best weights in" in done.stdout
