"""The Dockerfile, which cannot be built here, names only what exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.main import get_command

from mfclip.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n", " ", TEXT).splitlines()


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sources = [
        name
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert set(sources) == {
        "constraints.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "LICENSE-WEIGHTS",
        "NOTICE",
        "src",
    }
    for name in sources:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    assert "*" in ignored


def test_extras_and_files_of_the_build_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"\.\[([\w,]+)\]", TEXT)
    assert extras == ["serve"]
    assert set(extras[0].split(",")) <= project["optional-dependencies"].keys()
    for needed in (project["readme"], *project["license-files"]):
        assert needed in TEXT
    pinned = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    for requirement in project["optional-dependencies"]["serve"]:
        name = re.split(r"[\[>=]", requirement)[0]
        assert name == "mfclip" or f"{name}==" in pinned


def test_it_runs_as_nobody_and_says_whether_it_lives() -> None:
    starts = [line.split()[0] for line in LINES if line and line[0].isupper()]
    assert starts.index("USER") < starts.index("ENTRYPOINT")
    assert starts.count("HEALTHCHECK") == 1
    assert "127.0.0.1:8000/v1/health" in TEXT
    assert "root" not in next(line for line in LINES if line.startswith("USER"))


def test_it_starts_the_command_as_it_is() -> None:
    start = re.findall(r'"([^"]+)"', next(line for line in LINES if line.startswith("ENTRYPOINT")))
    assert start[:2] == ["mfclip", "serve"]
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in start if word.startswith("--")} <= options
    default = next(p.default for p in command.params if p.name == "port")
    assert f"EXPOSE {default}" in TEXT
