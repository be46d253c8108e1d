"""What may go wrong with the files of a run: damage, a full disk, weights that are no numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mfclip.config import build_config
from mfclip.errors import TrainingError, WeightsError
from mfclip.train.loop import LAST, train
from mfclip.weights import BEST, read_tensors


def test_a_checkpoint_cut_in_half_is_named(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(tiny_run)
    train(config, tmp_path, device="cpu", max_steps=1)
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"last\.safetensors is damaged.*train it again"):
        train(config, tmp_path, device="cpu", resume=True)


def test_weights_that_are_no_checkpoint_are_refused(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    config = build_config(tiny_run)
    train(config, tmp_path, device="cpu")
    (tmp_path / BEST).replace(tmp_path / LAST)
    with pytest.raises(WeightsError, match="is no checkpoint of a training run"):
        train(config, tmp_path, device="cpu", resume=True)


@pytest.mark.parametrize("name", [BEST, "config.toml", "log.jsonl"])
def test_whatever_cannot_be_written_is_named(
    tiny_run: dict[str, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()  # no file can take its place
    with pytest.raises(TrainingError, match=f"the run cannot go on: .*{name}.*free the disk"):
        train(build_config(tiny_run), tmp_path, device="cpu")
    assert not list(tmp_path.glob(".*partial"))


def test_weights_that_are_not_finite_never_reach_a_checkpoint(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    # the losses are looked at every 100 steps only, the weights before each checkpoint
    tiny_run["train"] |= {"lr": 1e38, "checkpoint_every": 1, "log_every": 100, "epochs": 9}
    with pytest.raises(TrainingError, match=r"not finite .*lower train\.lr"):
        train(build_config(tiny_run), tmp_path, device="cpu")
    if (tmp_path / LAST).exists():
        tensors, _ = read_tensors(tmp_path / LAST)
        weights = [name for name in tensors if name.startswith("model.") and "running" not in name]
        assert all(bool(tensors[name].isfinite().all()) for name in weights)
