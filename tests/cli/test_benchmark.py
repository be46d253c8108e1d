"""``mfclip benchmark`` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from mfclip.cli.app import app

QUICK = ["--quick", "--batch-size", "2", "--threads", "1", "--device", "cpu"]


def test_table_and_json_tell_the_same(tmp_path: Path) -> None:
    out = tmp_path / "new" / "speed.json"
    done = CliRunner().invoke(app, ["benchmark", "patch", *QUICK, "--json", str(out)])
    assert done.exit_code == 0, done.output
    tree = json.loads(out.read_text())
    assert tree["schema"] == 1
    assert tree["settings"]["batch_size"] == 2
    for row in tree["patch"]:
        assert row["name"] in done.stdout
        assert f"{row['images_per_second']:,.1f}" in done.stdout
        assert row["images_per_second"] == 2 / row["seconds"]["median"]
    assert "of ceiling" not in done.stdout  # a column that is empty is left out


def test_an_output_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = str(tmp_path / "file" / "speed.json")
    done = CliRunner().invoke(app, ["benchmark", "all", *QUICK, "--json", target])
    assert "is a file, not a folder" in str(done.exception)
    done = CliRunner().invoke(app, ["benchmark", "all", *QUICK, "--json", str(tmp_path)])
    assert "it is a folder; name a file in it" in str(done.exception)


def test_other_parts_are_refused() -> None:
    done = CliRunner().invoke(app, ["benchmark", "everything"])
    assert done.exit_code == 2
    assert "inference" in done.output
