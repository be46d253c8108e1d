"""No command writes over what it reads, and none takes a foreign name for its output."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from helpers import value_type
from mfclip.cli.app import app
from mfclip.errors import ConfigError, MfclipError

# Output options and commands: what is written must be a file of that ending, or a folder.
# M is the manifest, F an image of it, V a film, W weights, R a run, P a protocol.
FILES = {
    "predict --json": ["predict", "F", "--json"],
    "predict --report": ["predict", "F", "--report"],
    "predict --out": ["predict", "F", "--out"],
    "data scan --out": ["data", "scan", "folders", ".", "--out"],
    "data audit --out": ["data", "audit", "M", "--out"],
    "data show --out": ["data", "show", "M", "--out"],
    "import --out": ["import", "xception", "W", "--out"],
    "calibrate --out": ["calibrate", "W", "--manifest", "M", "--out"],
    "release --out": ["release", "R", "--manifest", "M", "--out"],
    "export --out": ["export", "--weights", "W", "--to", "torch", "--out"],
    "score join --out": ["score", "join", "scores", "--out"],
    "experiment figure --out": ["experiment", "figure", "fig1a", "--manifest", "M", "--out"],
}
FOLDERS = {
    "demo --out": ["demo", "--out"],
    "train --out": ["train", "--manifest", "M", "--out"],
    "evaluate --out": ["evaluate", "--manifest", "M", "--weights", "W", "--out"],
    "score run --out": ["score", "M", "--weights", "W", "--out"],
    "data prepare --out": ["data", "prepare", "M", "--out"],
    "data perturb --out": ["data", "perturb", "M", "--out"],
    "data reconstruct --out": ["data", "reconstruct", "M", "--out"],
    "data pack --out": ["data", "pack", "M", "--out"],
    "experiment run --out": ["experiment", "run", "P", "--manifest", "M", "--out"],
}
EITHER = {"predict --annotate": ["predict", "V", "--annotate"]}


@pytest.fixture
def place(tmp_path: Path, made_faces: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds one of everything that commands read."""
    shutil.copytree(made_faces.parent, tmp_path / "faces")
    (tmp_path / "run").mkdir()
    for name in ("run/best.safetensors", "film.mp4"):
        (tmp_path / name).write_bytes(b"not read before the names are checked")
    protocol = 'title = "t"\ndata = "d"\n[[train]]\nname = "all"\n[[test]]\nname = "all"\n'
    (tmp_path / "p.toml").write_text(protocol + '[[rows]]\nname = "MFCLIP"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = {
    "M": "faces/manifest.csv", "F": "faces/0.png", "V": "film.mp4", "W": "run/best.safetensors",
    "R": "run", "P": "p.toml",
}  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(words: Sequence[str], out: str) -> str:
    """The message of the command that should write to `out`; nothing may have been changed."""
    before = contents(Path())
    done = CliRunner().invoke(app, [*(NAMES.get(word, word) for word in words), out])
    assert isinstance(done.exception, ConfigError), (done.output, done.exception)
    assert contents(Path()) == before
    return str(done.exception)


def test_every_output_option_is_tried_below() -> None:
    """An option that names a file or folder to write is one of these, or is read from."""
    read = {"--config", "--manifest", "--root", "--reuse", "--found", "--weights"}
    found = set()
    tree = [("", get_command(app))]
    while tree:
        words, command = tree.pop()
        if hasattr(command, "list_commands"):
            names = command.list_commands(None)
            tree += [(f"{words} {n}".strip(), command.get_command(None, n)) for n in names]
            continue
        for parameter in command.params:
            option = parameter.opts[0]
            takes_path = value_type(parameter) is Path
            if option.startswith("--") and option not in read and takes_path:
                found.add(f"{words} {option}")
    # --json takes FILE or -, and that of score an address, and so they are texts
    assert found | {"predict --json", "score run --out"} == {*FILES, *FOLDERS, *EITHER}


@pytest.mark.parametrize("option", [*FILES, *EITHER])
@pytest.mark.parametrize("out", ["faces/0.png", "faces/1.png", "r.docx", "film.webm"])
def test_a_foreign_ending_is_refused(option: str, out: str, place: Path) -> None:
    """`--report *.jpg`: the first image was turned into HTML, with exit status 0."""
    if option in {"data show --out", "experiment figure --out"} and out.endswith(".png"):
        out = "faces/1.txt"  # these write PNG
    assert f"but got '{out}'" in refusal({**FILES, **EITHER}[option], out)


@pytest.mark.parametrize("option", [*FOLDERS])
@pytest.mark.parametrize("out", ["faces/0.png", "results.csv", "new.docx"])
def test_a_files_name_is_no_folder(option: str, out: str, place: Path) -> None:
    assert f"to be followed by a folder, but got '{out}'" in refusal(FOLDERS[option], out)


@pytest.mark.parametrize("option", [*FILES, *FOLDERS, *EITHER])
def test_a_dash_is_no_name(option: str, place: Path) -> None:
    if option == "predict --json":
        return  # there it is the standard output
    assert "but got '-'" in refusal({**FILES, **FOLDERS, **EITHER}[option], "-")


@pytest.mark.parametrize("option", [*FILES])
def test_a_folder_is_no_file(option: str, place: Path) -> None:
    assert "that is a folder" in refusal(FILES[option], "faces")


OVERWRITING = {
    "image": (["data", "show", "M", "--out"], "faces/7.png"),
    "image of a figure": (["experiment", "figure", "fig1a", "--manifest", "M", "--split", "train",
                           "--out"], "faces/6.png"),
    "film": (["predict", "V", "--annotate"], "film.mp4"),
    "manifest of crops": (["data", "prepare", "M", "--out"], "faces"),
    "weights": (["export", "--weights", "W", "--to", "torch", "--out"], "run/best.safetensors"),
    "weights of a run": (["export", "--weights", "R", "--to", "torch", "--out"],
                         "run/best.safetensors"),
    "weights of others": (["import", "xception", "W", "--out"], "run/best.safetensors"),
    "weights of a calibration": (["calibrate", "R", "--manifest", "M", "--out"],
                                 "run/best.safetensors"),
    "weights of a release": (["release", "R", "--manifest", "M", "--out"], "run/best.safetensors"),
    "start of a training": (["train", "--manifest", "M", "--set",
                             "model.pretrained=run/best.safetensors", "--out"], "run"),
    "configuration": (["train", "--config", "run/config.toml", "--out"], "run"),
}  # fmt: skip


@pytest.mark.parametrize("what", OVERWRITING)
@pytest.mark.parametrize("way", ["itself", "symbolic link", "hard link"])
def test_no_input_is_written_over(what: str, way: str, place: Path) -> None:
    (place / "run/config.toml").write_text('[data]\nmanifest = "faces/manifest.csv"\n')
    words, out = OVERWRITING[what]
    if way != "itself":
        if Path(out).is_dir():
            link = Path("alias")
            link.symlink_to(out)  # a folder has no hard links
        else:
            link = Path(f"alias{Path(out).suffix}")
            link.symlink_to(out) if way == "symbolic link" else os.link(out, link)
        out = str(link)
    message = refusal(words, out)
    assert "which this command reads; no input is ever overwritten" in message


def test_a_json_named_as_input_is_not_written_over(place: Path) -> None:
    (place / "x.json").write_text("{}")
    message = refusal(["predict", "x.json", "--json"], "x.json")
    assert "--json would write x.json over x.json" in message
    os.link("faces/0.png", "linked.json")
    message = refusal(["predict", "faces", "--json"], "linked.json")
    assert "--json would write linked.json over faces/0.png" in message


def test_a_table_of_ones_own_is_not_scanned_onto_itself(place: Path) -> None:
    (place / "faces/mine.csv").write_text("path,label\n0.png,real\n1.png,fake\n")
    for words in (["scan", "table", "faces/mine.csv"], ["scan", "folders", "faces"]):
        assert "no input is ever overwritten" in refusal(["data", *words, "-o"], "faces/mine.csv")
    done = CliRunner().invoke(app, ["data", "scan", "table", "faces/mine.csv", "-o", "faces/m.csv"])
    assert done.exit_code == 0, done.exception
    # its own manifest may be made anew
    done = CliRunner().invoke(app, ["data", "scan", "table", "faces/mine.csv", "-o", "faces/m.csv"])
    assert done.exit_code == 0, done.exception


def test_perturbed_copies_are_not_written_over_their_source(place: Path) -> None:
    options = ["--kinds", "GB", "--levels", "1", "--workers", "0", "-o"]
    done = CliRunner().invoke(app, ["data", "perturb", "faces/manifest.csv", *options, "out"])
    assert done.exit_code == 0, done.exception
    message = refusal(["data", "perturb", "out/GB-1/manifest.csv", *options], "out")
    assert "no input is ever overwritten" in message


def test_settings_that_change_nothing_are_refused(place: Path) -> None:
    command = ["evaluate", "--manifest", "faces/manifest.csv", "--set", "train.lr=1"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, MfclipError)
    assert "--set train.lr=1 changes nothing here" in str(done.exception)
