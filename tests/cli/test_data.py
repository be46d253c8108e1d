"""A place that cannot be written gets one clear line from every data command, before its work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.errors import ConfigError

COMMANDS = {
    "scan": ("folders/manifest.csv", ("scan", "folders", "ROOT")),
    "prepare": ("folder", ("prepare", "M")),
    "audit": ("audit.html", ("audit", "M", "--workers", "0")),
    "show": ("sheet.png", ("show", "M")),
    "perturb": ("folder", ("perturb", "M")),
    "pack": ("folder", ("pack", "M")),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_below_a_file_is_refused_by_every_command(
    name: str, made_faces: Path, tmp_path: Path
) -> None:
    place, words = COMMANDS[name]
    (tmp_path / "taken").write_text("kept")
    given = {"M": str(made_faces), "ROOT": str(tmp_path)}
    command = ["data", *(given.get(word, word) for word in words)]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "taken" / place)])
    assert isinstance(result.exception, ConfigError)
    message = str(result.exception)
    assert message.startswith(f"cannot write {tmp_path / 'taken'}")
    assert "is a file, not a folder" in message
    assert (tmp_path / "taken").read_text() == "kept"


@pytest.mark.parametrize("name", ["scan", "audit", "show"])
def test_a_folder_in_the_place_of_the_file_is_refused(
    name: str, made_faces: Path, tmp_path: Path
) -> None:
    place, words = COMMANDS[name]
    out = tmp_path / Path(place).name
    out.mkdir()
    given = {"M": str(made_faces), "ROOT": str(tmp_path)}
    command = ["data", *(given.get(word, word) for word in words)]
    result = CliRunner().invoke(app, [*command, "--out", str(out)])
    with pytest.raises(ConfigError, match=r"the file to write, .* but that is a folder"):
        raise result.exception or AssertionError(result.output)


@pytest.mark.slow
def test_the_command_prints_one_line_and_ends_with_two(made_faces: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    main = "from mfclip.cli.app import main; main()"
    words = ["data", "pack", str(made_faces), "-o", str(tmp_path / "taken")]
    ended = subprocess.run(
        [sys.executable, "-c", main, *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: cannot write ")
    assert ended.stderr.count("\n") == 1
