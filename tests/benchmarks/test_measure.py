"""``benchmarks/measure.py`` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import measure
from mfclip.errors import ConfigError

QUICK = ["--quick", "--batch-size", "2", "--threads", "1", "--device", "cpu"]


def test_table_and_json_tell_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "speed.json"
    measure.main(["patch", *QUICK, "--out", str(out)])
    printed = capsys.readouterr().out
    tree = json.loads(out.read_text())
    assert tree["schema"] == 1
    assert tree["settings"]["batch_size"] == 2
    for row in tree["patch"]:
        assert row["name"] in printed
        assert f"{row['images_per_second']:,.1f}" in printed
        assert row["images_per_second"] == 2 / row["seconds"]["median"]
    assert "of ceiling" not in printed  # a column that is empty is left out


def test_an_output_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        measure.main(["all", *QUICK, "--out", str(tmp_path / "file" / "speed.json")])
    with pytest.raises(ConfigError, match="it is a folder; name a file in it"):
        measure.main(["all", *QUICK, "--out", str(tmp_path)])


def test_other_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure.main(["everything"])
    assert "inference" in capsys.readouterr().err
