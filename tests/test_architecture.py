"""The tree keeps its shape: import direction, public names, no side effects, frozen options."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import mfclip
from helpers import value_type
from mfclip.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "mfclip"

LAYERS = {
    **dict.fromkeys(["labels", "config", "errors", "batch", "card"], 0),
    **dict.fromkeys(["layers", "runtime"], 1),
    "weights": 2,
    **dict.fromkeys(["model", "baselines", "media", "checkpoints"], 3),
    **dict.fromkeys(["detectors", "data"], 4),
    **dict.fromkeys(["engines", "datasets", "published"], 5),
    **dict.fromkeys(["evaluate", "predict"], 6),
    **dict.fromkeys(["train", "report"], 7),
    **dict.fromkeys(["serve", "experiment", "scale"], 8),
    "cli": 9,
    "__main__": 10,
}
FILES = sorted(SOURCE.rglob("*.py"))


def _place(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imports(file: Path) -> Iterator[str]:
    """First part below mfclip of everything that a file imports from mfclip, lazily or not."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[1] for name in names if name.startswith("mfclip."))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_down(file: Path) -> None:
    own = _place(file)
    if own == "__init__":  # the front door names everything, lazily
        return
    for other in _imports(file):
        message = f"{own} (layer {LAYERS[own]}) imports {other} (layer {LAYERS[other]})"
        foundation = LAYERS[own] == LAYERS[other] == 0
        assert other == own or LAYERS[other] < LAYERS[own] or foundation, message


def test_every_part_of_the_tree_has_a_layer() -> None:
    assert {_place(file) for file in FILES} - {"__init__"} <= LAYERS.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_no_path_edits_absolute_paths_or_prints(file: Path) -> None:
    text = file.read_text()
    assert "sys.path" not in text
    assert not re.search(r"[\"'](/home|/root|/mnt|/opt|/Users|C:\\\\)", text)
    calls = [n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_decoders_are_told_which_format_to_expect(file: Path) -> None:
    """Else a file from a stranger may reach any of them, and one starts another program (EPS)."""
    for call in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)):
        written = ast.unparse(call)
        given = {keyword.arg for keyword in call.keywords}
        if ast.unparse(call.func) == "Image.open":
            assert "formats" in given, written
        if ast.unparse(call.func) == "av.open" and "'w'" not in written:
            assert "format" in given, written


def test_public_names() -> None:
    assert set(mfclip.__all__) == {
        "Failure", "Labels", "MFCLIP", "Manifest", "Prediction", "Predictor", "RunConfig",
        "SamplePairAttention", "create_model", "judge_video", "load_config", "load_detector",
        "read_manifest", "tokenize",
    }  # fmt: skip
    assert all(getattr(mfclip, name) is not None for name in mfclip.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mfclip.nonsense  # noqa: B018


def test_importing_the_package_is_light() -> None:
    code = "import sys, mfclip, mfclip.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_changelog_names_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert versions[:2] == ["Unreleased", mfclip.__version__]
    assert f'version = "{mfclip.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {mfclip.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_options_of_train_and_evaluate_are_frozen() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: {option for parameter in commands[name].params for option in parameter.opts}
        for name in ("train", "evaluate")
    }
    assert options["train"] == {
        "--config", "--manifest", "--set", "--out", "-o", "--device", "--seed", "--resume",
        "--profile", "--max-steps", "--dry-run",
    }  # fmt: skip
    assert options["evaluate"] == {
        "--manifest", "--root", "--weights", "--out", "-o", "--split", "--fit-split", "--set",
        "--device", "--engine", "--precision", "--unit", "--pool",
    }  # fmt: skip


OF_OTHER_MEANING = {("data reconstruct", "--weights"), ("export", "--precision")}
"""Options that only share a name: weights of a generator, a precision to convert to."""


def _commands() -> dict[str, Any]:
    """Every command by its words, e.g. ``data scan``."""
    tree = {"": get_command(app)}
    while groups := {words: each for words, each in tree.items() if hasattr(each, "list_commands")}:
        for words, group in groups.items():
            del tree[words]
            for word in group.list_commands(None):
                tree[f"{words} {word}".strip()] = group.get_command(None, word)
    return tree


def test_what_several_commands_ask_for_is_asked_for_alike() -> None:
    """One name, one short form and one type of value."""
    found: dict[str, dict[str, set[Any]]] = {}
    asked = [(name, each) for name, command in _commands().items() for each in command.params]
    for command, parameter in asked:
        if (command, parameter.opts[0]) in OF_OTHER_MEANING:
            continue
        # an argument is no option of that name: `data scan` takes the root of a data set
        seen = found.setdefault(parameter.opts[0], {"opts": set(), "type": set()})
        seen["opts"].add(tuple(parameter.opts))
        seen["type"].add(value_type(parameter))
    assert found["--out"]["opts"] == {("--out", "-o")}
    for name in ("--manifest", "--weights", "--root", "--split", "--device", "--engine",
                 "--precision", "--seed", "--set", "--workers", "--threshold", "--batch-size",
                 "--config"):  # fmt: skip
        assert len(found[name]["opts"]) == 1, name
        assert len(found[name]["type"]) == 1, name
    assert found["--frames"]["opts"] == {("--frames",), ("--frames", "--num-frames")}


def test_options_are_explained_alike() -> None:
    """What has one meaning has one text; ``serve`` and ``figure`` have reasons for their own."""
    texts: dict[str, set[str]] = {}
    for name, command in _commands().items():
        if name in {"serve", "experiment figure"}:
            continue
        for parameter in command.params:
            if (name, parameter.opts[0]) not in OF_OTHER_MEANING:
                texts.setdefault(parameter.opts[0], set()).add(getattr(parameter, "help", "") or "")
    for option in ("--weights", "--root", "--device", "--workers", "--precision", "--threshold"):
        assert len(texts[option]) == 1, option


def test_terms_of_what_is_shipped_name_files_that_exist() -> None:
    notice = (ROOT / "NOTICE").read_text()
    places = re.findall(r"src/mfclip/[\w/.*-]+\w", notice)
    assert places
    for place in places:
        assert list(ROOT.glob(place)), f"NOTICE names {place}, which is not there"
    weights = {path.name for path in (SOURCE / "assets" / "weights").iterdir()}
    named = {path.name for place in places for path in ROOT.glob(place)}
    assert weights <= named, "NOTICE says nothing of these weights"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0 AND LicenseRef-mfclip-weights"
    assert all((ROOT / name).is_file() for name in project["license-files"])
    assert "LicenseRef-mfclip-weights" in (ROOT / "LICENSE-WEIGHTS").read_text()
