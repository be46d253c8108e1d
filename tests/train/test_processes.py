"""Several processes by the documented line: equal to one, killed and taken up again."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mfclip.config import build_config, dump_toml
from mfclip.train.loop import LAST, train
from mfclip.train.processes import Processes
from mfclip.weights import BEST, read_tensors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
FIGURES = ("auc", "accuracy", "threshold", "loss")


def documented_line(config: Path, out: Path, *more: str) -> list[str]:
    """The line of the documentation with other places in it, run by this environment."""
    (line,) = re.findall(r"^torchrun .*", PAGE.read_text(), flags=re.MULTILINE)
    line = line.replace("configs/small.toml --set data.manifest=faces.csv", str(config))
    line = line.replace("runs/small", str(out))
    assert str(config) in line
    assert str(out) in line
    start, *words = shlex.split(line)
    return [str(Path(sys.executable).with_name(start)), *words, "--device", "cpu", *more]


def start(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def finish(run: subprocess.Popen[str]) -> str:
    try:
        return run.communicate(timeout=900)[1]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


def wait_for_step(out: Path, step: int, run: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 600
    while not ((out / LAST).exists() and json.loads(_metadata(out)["progress"])["step"] >= step):
        assert run.poll() is None, finish(run)
        assert time.monotonic() < until
        time.sleep(0.05)


def _metadata(out: Path) -> dict[str, str]:
    return read_tensors(out / LAST)[1]


def _log(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


@pytest.fixture(scope="module")
def two(made_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Settings, and the folder that two processes wrote by the documented line in two epochs."""
    folder = tmp_path_factory.mktemp("two")
    tree: dict[str, Any] = {
        "model": {
            "image_size": 64,
            "embed_dim": 16,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "image": {"widths": [4, 8], "convs": [1, 1], "depth": 1},
            "noise": {"widths": [4, 8], "convs": [1, 1], "depth": 1, "patch_size": 32},
            "text": {"depth": 1},
            # shared targets, batch norm, all losses: everything that sees the joined batch
            "spa": {"mode": "content", "shared_targets": True},
        },
        "data": {"manifest": str(made_faces), "resize": 72, "augment": "light", "cache": True},
        # Adam would blow up the rounding of gradients that are nearly 0
        "train": {
            "epochs": 2,
            "batch_size": 6,
            "optimizer": "sgd",
            "lr": 0.02,
            "log_every": 1,
            "checkpoint_every": 1,
            "ema": 0.9,
        },
    }
    config = folder / "run.toml"
    config.write_text(dump_toml(build_config(tree)))
    run = start(documented_line(config, folder / "run"))
    stderr = finish(run)
    assert run.returncode == 0, stderr[-4000:]
    return tree, folder / "run"


@pytest.mark.dist
@pytest.mark.slow
def test_the_documented_line_equals_one_process(
    two: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    tree, joined = two
    train(build_config(tree), tmp_path, device="cpu")
    for kind, names in (("train", ("contrastive", "kl", "cross_entropy")), ("val", FIGURES)):
        ours, theirs = _log(joined, kind), _log(tmp_path, kind)
        assert len(ours) == len(theirs) == (8 if kind == "train" else 2)
        for own, other in zip(ours, theirs, strict=True):
            for name in names:
                assert own[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), (kind, name)
    for file in (LAST, BEST):
        one, several = read_tensors(tmp_path / file)[0], read_tensors(joined / file)[0]
        assert one.keys() == several.keys()
        for name, tensor in one.items():
            torch.testing.assert_close(several[name], tensor, rtol=1e-2, atol=1e-4, msg=name)
    start_of = [_log(folder, "start")[0] for folder in (joined, tmp_path)]
    assert [entry["processes"] for entry in start_of] == [2, 1]
    assert start_of[0]["val_samples"] == start_of[1]["val_samples"] == 12


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_that_are_stopped_and_killed_go_on_to_the_bit(
    two: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    tree, whole = two
    config, out = tmp_path / "run.toml", tmp_path / "run"
    config.write_text(dump_toml(build_config(tree)))
    run = start(documented_line(config, out))
    wait_for_step(out, 1, run)
    os.killpg(run.pid, signal.SIGTERM)  # as a batch system does
    assert "stopped by SIGTERM after step" in finish(run)
    stopped = json.loads(_metadata(out)["progress"])["step"]
    run = start(documented_line(config, out, "--resume"))
    wait_for_step(out, stopped + 2, run)
    os.killpg(run.pid, signal.SIGKILL)
    finish(run)
    run = start(documented_line(config, out, "--resume"))
    stderr = finish(run)
    assert run.returncode == 0, stderr[-4000:]
    one, other = read_tensors(whole / LAST), read_tensors(out / LAST)
    assert one[1]["progress"] == other[1]["progress"]
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)


def test_processes_draw_different_random_numbers_and_each_step_its_own() -> None:
    drawn = []
    for rank, step in ((0, 0), (1, 0), (0, 1), (0, 0)):
        Processes(rank, 2, torch.device("cpu")).seed(7, step)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[3]
    assert len({tuple(values) for values in drawn}) == 3


def test_alone_a_process_decides_gathers_and_agrees_with_itself() -> None:
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.decide(lambda: 5) == 5
    assert alone.gather("own") == ["own"]
    assert [alone.any(flag=flag) for flag in (True, False)] == [True, False]
