"""Seeds, the faces set when it is there, and a small data set made on the spot."""

from __future__ import annotations

import random
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

FACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "faces" / "manifest.csv"

ALLOWED_SKIPS = {
    "the development faces are not on this machine": "private photographs, never in the repository",
    "there is no Chromium on this machine": "a browser is no Python package",
    "Pango is not on this machine": "a system library is no Python package",
    "no accelerator": "CI has none",
    "this processor does not compute in bf16": "older processors lack it",
    "not glibc": "the allocator's settings are glibc's own",
    "needs Linux": "/proc, /dev/full, kept peaks of memory and named pipes are Linux's own",
    "needs POSIX permissions": "Windows has others",
    "all tests skipped by +SKIP option": "examples in docstrings that would fetch from a network",
}
"""How the reason of each skip that may happen begins, and why; any other skip fails."""


def _fail_unexpected_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(tuple(ALLOWED_SKIPS)):
        report.outcome = "failed"
        report.longrepr = f"unexpected skip: {reason} (tests/conftest.py lists those allowed)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip that no list allows into a failure: a test that never runs shows nothing."""
    report = yield
    _fail_unexpected_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a file that skips itself when it is read, as ``importorskip`` does."""
    report = yield
    _fail_unexpected_skip(report)
    return report


@pytest.fixture(autouse=True)
def _gradients_stay_on() -> Generator[None]:
    """What ends with gradients off would let every later training in this process fail."""
    yield
    left_off = not torch.is_grad_enabled() or torch.is_inference_mode_enabled()
    torch.set_grad_enabled(True)
    assert not left_off, "this test left gradients switched off"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # small tensors: a team of threads costs more than it brings


@pytest.fixture
def faces_manifest() -> Path:
    """The manifest of the development faces; the test skips where they are absent."""
    if not FACES.is_file():
        pytest.skip("the development faces are not on this machine")
    return FACES


@pytest.fixture(scope="session")
def made_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 48 made pictures, 72 x 72: smooth "real" ones, "fake" ones with a fine grid."""
    folder = tmp_path_factory.mktemp("made_faces")
    rng = np.random.default_rng(0)
    rows = ["path,label,manipulation,family,generator,split,group"]
    for number in range(48):
        is_fake, split = number % 2 == 1, ("train", "val", "test")[number // 24 + number // 36]
        pixels = np.kron(rng.integers(40, 200, (9, 9, 3)), np.ones((8, 8, 1)))
        if is_fake:
            pixels += 25 * (np.indices((72, 72)).sum(0) % 2)[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        kind = ("face_swap,gan,A", "entire_face_synthesis,diffusion,B")[number // 2 % 2]
        levels = f"fake,{kind}" if is_fake else "real,,,camera"
        rows.append(f"{number}.png,{levels},{split},g{number}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


@pytest.fixture
def tiny_run(made_faces: Path) -> dict[str, Any]:
    """A configuration tree of a run that takes a second: 4 steps an epoch."""
    return {
        "model": {
            "image_size": 64,
            "embed_dim": 16,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "image": {"widths": [4, 8], "convs": [1, 1], "depth": 1},
            "noise": {"widths": [4, 8], "convs": [1, 1], "depth": 1, "patch_size": 32},
            "text": {"depth": 1},
            "spa": {"batch_size": 6},
        },
        "data": {"manifest": str(made_faces), "resize": 72, "augment": "light", "cache": True},
        "train": {"epochs": 2, "batch_size": 6, "lr": 0.003, "log_every": 1},
    }
