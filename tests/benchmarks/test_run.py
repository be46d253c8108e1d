"""The parts that were asked for are those that are measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from machine import roofline
from machine.run import PARTS, Settings, measure
from mfclip.errors import ConfigError


@pytest.mark.slow
def test_all_parts_of_a_tiny_detector(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "SIDES", {"cpu": (64,)})
    monkeypatch.setattr(roofline, "CONVOLUTIONS", {"cpu": ((1, 8, 16),)})
    settings = Settings(str(tiny_weights), batch_size=2, threads=1, rounds=2, feed_images=4)
    told: list[str] = []
    found = measure(PARTS, settings, lambda *said: told.append(said[0]))
    assert tuple(found.parts) == PARTS
    assert set(found.ceilings) == {"fp32", "bf16"}
    assert found.settings["threads"] == torch.get_num_threads() == 1
    assert any("decode" in what for what in told)


def test_parts_without_arithmetic_need_no_detector() -> None:
    settings = Settings("no such thing", batch_size=2, rounds=2)
    found = measure(["patch"], settings)
    assert list(found.parts) == ["patch"]
    assert found.ceilings == {}


def test_no_such_device() -> None:
    with pytest.raises(ConfigError, match="no device 'abacus'"):
        measure(["patch"], Settings(device="abacus"))


def test_a_first_look_keeps_what_was_asked_for() -> None:
    quick = Settings("mfclip-small", 8, 2, device="cpu").quick()
    assert (quick.model, quick.batch_size, quick.threads, quick.device) == (
        "mfclip-small", 8, 2, "cpu",
    )  # fmt: skip
    assert quick.rounds < Settings().rounds
