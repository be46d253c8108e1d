from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mfclip.config import build_config
from mfclip.errors import ConfigError
from mfclip.train.profile import STEPS, profile_training


def test_a_small_set_is_gone_through_several_times(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    text = profile_training(build_config(tiny_run), tmp_path, device="cpu")  # 7 steps, 4 an epoch
    figures = json.loads((tmp_path / "profile.json").read_text())
    assert len(figures["seconds_in_step"]) == STEPS
    assert f"{sum(figures['seconds_in_step']) / STEPS:.3f} s computing" in text
    names = {
        event["name"] for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    }
    assert any("conv" in name for name in names)


def test_without_data_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set data\.manifest"):
        profile_training(build_config({}), tmp_path)
