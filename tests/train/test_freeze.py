"""Frozen parts: equal to the bit after training, while the others learn."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from mfclip.config import build_config
from mfclip.errors import ConfigError
from mfclip.train.loop import LAST, train
from mfclip.weights import BEST, read_tensors, read_weights


def test_words_learn_while_the_vision_half_stays_to_the_bit(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    tiny_run["model"]["spa"] = {"mode": "content"}
    train(build_config(tiny_run), tmp_path / "first", device="cpu")
    words = copy.deepcopy(tiny_run)
    # SPA and predictor are switched off: their weights in the file are left out
    words["model"] |= {"spa": {"mode": "none"}, "use_predictor": False}
    words["model"]["pretrained"] = str(tmp_path / "first" / BEST)
    words["train"] |= {"freeze": ["vision_encoder", "head"], "loss": {"cross_entropy": 0.0}}
    train(build_config(words), tmp_path / "words", device="cpu")

    before = read_weights(tmp_path / "first" / BEST).tensors
    after, _ = read_tensors(tmp_path / "words" / LAST)
    frozen = [n for n in before if n.startswith(("vision_encoder.", "head."))]
    assert any("running_mean" in name for name in frozen)
    for name in frozen:
        assert torch.equal(before[name], after[f"model.{name}"]), name
    learned = [n for n in before if n.startswith("language_encoder.")]
    assert any(not torch.equal(before[name], after[f"model.{name}"]) for name in learned)


def test_a_part_that_is_not_there_is_refused(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    tiny_run["train"] |= {"freeze": ["vision"]}
    with pytest.raises(ConfigError, match=r"parts of the detector, \[vision_encoder, .*'vision'"):
        train(build_config(tiny_run), tmp_path / "run", device="cpu")
