from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image, ImageOps
from typer.testing import CliRunner, Result

from mfclip.card import read_card
from mfclip.cli.demo import demo
from mfclip.cli.predict import MAX_NOTES, predict
from mfclip.config import build_config
from mfclip.detectors import save_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.labels import Labels
from mfclip.model.build import build_mfclip
from mfclip.predict.faces import WholePicture
from mfclip.predict.predictor import Predictor
from mfclip.predict.schema import to_json

app = typer.Typer()
app.command()(predict)
app.command()(demo)

CLI = Path(str(files("mfclip").joinpath("cli")))

TINY = {
    "name": "mfclip-small",
    "embed_dim": 32,
    "num_heads": 2,
    "image": {"widths": (4, 8, 8, 8, 16), "convs": (1, 1, 1, 1, 1), "depth": 1},
    "noise": {"widths": (4, 8), "convs": (1, 1), "depth": 1},
    "text": {"depth": 1},
}
CARD = {
    "threshold": 0.0,
    "trained_on": "nothing",
    "licence": "research [only]",
    "limits": "errs always",
    "metrics": {"test": {"auc": float("nan")}},
    "kinds": {
        "test": {
            "manipulation": {"value": 0.1, "low": 0.0, "high": 0.2, "chance": 0.5, "faces": 90},
            "family": {"value": 0.9, "low": 0.8, "high": 1.0, "chance": 0.5, "faces": 90},
            "generator": {"value": 0.9, "low": 0.8, "high": 1.0, "chance": 0.5, "faces": 90},
        }
    },
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = build_config({"model": TINY}).model
    model = build_mfclip(settings)
    swap = Labels(True, "face_swap", "gan", "inswapper_128")
    model.remember_prompts([swap, Labels(False, None, None, "FFHQ")])
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(model, settings, path, card=read_card(CARD), vision_only=True)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good pictures, one of them in a folder, and three bad ones."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    with Image.open(str(files("mfclip").joinpath("assets/demo/photo/collins.jpg"))) as photo:
        face = photo.crop((100, 10, 340, 250))
    face.save(tmp_path / "in" / "b[red].png")
    ImageOps.mirror(face).save(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "in" / "empty.jpg").touch()
    (tmp_path / "in" / "text.png").write_text("hello")
    (tmp_path / "in" / "gone.jpg").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments])


def test_json_holds_what_the_predictor_says(folder: Path, weights: str) -> None:
    done = run("in", "--whole", "--weights", weights, "--json", "-", "--batch-size", "1")
    document = json.loads(done.stdout)
    assert list(document) == ["schema", "model", "predictions", "videos", "errors", "skipped"]
    assert document["schema"] == 2
    assert document["model"]["weights"] == weights
    assert [document["model"][key] for key in ("limits", "licence")] == [
        CARD["limits"],
        CARD["licence"],
    ]
    assert [entry["path"] for entry in document["predictions"]] == [
        "in/b[red].png",
        "in/sub/a.png",
    ]
    assert {entry["path"] for entry in document["errors"]} == {
        "in/empty.jpg",
        "in/gone.jpg",
        "in/text.png",
    }
    predictor = Predictor.load(weights, device="cpu", finder=WholePicture(check=True))
    expected = to_json(predictor.predict(["in/b[red].png"])[0])
    first = document["predictions"][0]
    assert first.pop("score") == pytest.approx(expected.pop("score"), abs=1e-5)
    first.pop("kinds")
    expected.pop("kinds")
    assert first == expected


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["in/sub/a.png"], 0),
        (["in/sub"], 0),
        (["in/*.png", "in/sub/a.png"], 1),
        (["in/empty.jpg", "in/absent.jpg"], 2),
        (["nothing*.jpg"], 2),
        ([], 2),
        (["in", "--threshold", "2"], 2),
        (["in", "--batch-size", "0"], 2),
        (["in", "--no-such-option"], 2),
    ],
)
def test_exit_status(folder: Path, weights: str, names: list[str], status: int) -> None:
    assert run(*names, "--whole", "--weights", weights).exit_code == status


def test_table_names_each_picture_and_failures_go_to_the_standard_error(
    folder: Path, weights: str
) -> None:
    done = run("in", "--whole", "--weights", weights)
    rows = [line for line in done.stdout.splitlines() if ".png" in line]
    assert ["b[red].png" in rows[0], "a.png" in rows[1]] == [True, True]
    kinds = ("fake", "GAN", "inswapper_128")  # threshold 0
    assert all(word in row for row in rows for word in kinds)
    assert "face swap" not in done.stdout  # named rightly less often than by a guess
    assert "does no better than a guess: manipulation" in done.stdout
    assert "Limits of the weights: errs always" in done.stdout
    assert "Licence of the weights: research [only]" in done.stdout
    assert "2 faces judged: 2 fake, 0 uncertain, 0 real." in done.stdout
    assert done.stderr.count("not judged:") == 3
    assert "in/empty.jpg" in done.stderr


def test_notes_stand_below_the_table_and_do_not_flood_it(folder: Path, weights: str) -> None:
    for number in range(MAX_NOTES + 2):
        Image.new("RGB", (60, 60)).save(folder / f"in/sub/small[{number}].png")
    done = run("in/sub", "--whole", "--weights", weights)
    assert done.stdout.count("(60 pixels)") == MAX_NOTES
    assert "note: in/sub/small[0].png: no face was found in this image" in done.stdout
    assert "and 2 more notes" in done.stdout


def test_threshold_of_the_user_decides(folder: Path, weights: str) -> None:
    done = run("in/sub/a.png", "--whole", "--weights", weights, "--threshold", "1")
    assert "1 face judged: 0 fake, 0 uncertain, 1 real." in done.stdout
    assert "Below 1.000 a face is called real, from there on forged. The thr" in done.stdout


def test_json_and_report_files(folder: Path, weights: str) -> None:
    done = run(
        *("in", "--whole", "--weights", weights),
        *("--json", "out/r.json", "--report", "out/r.html"),
    )
    assert done.exit_code == 1
    assert len(json.loads((folder / "out/r.json").read_text())["predictions"]) == 2
    assert (folder / "out/r.html").read_text().count("<article") == 2
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["r.html", "r.json"]


def test_a_report_that_ends_in_pdf_is_one(folder: Path, weights: str) -> None:
    done = run("in/sub", "--whole", "--weights", weights, "--report", "out/r.PDF")
    assert done.exit_code == 0, done.exception
    data = (folder / "out/r.PDF").read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Subtype /Image") == 5  # picture, model input, heat map, patch, noise


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_an_output_that_cannot_be_written_is_one_clear_line(
    folder: Path, weights: str, option: str
) -> None:
    (folder / "file").touch()
    done = run("in/sub", "--whole", "--weights", weights, option, "file/r")
    assert isinstance(done.exception, ConfigError)
    expected = "cannot write file/r: file is a file, not a folder; choose another place"
    assert str(done.exception).startswith(expected)


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_an_output_is_tried_before_the_pictures_are_judged(
    folder: Path, weights: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    opened: list[object] = []
    original = os.open

    def watched(path: Any, *rest: Any, **named: Any) -> int:
        opened.append(Path(path).name)
        return original(path, *rest, **named)

    monkeypatch.setattr(os, "open", watched)
    run("in/sub/a.png", "--whole", "--weights", weights, option, "file/r")
    assert "a.png" not in opened
    run("in/sub/a.png", "--whole", "--weights", weights, option, "new/r")
    assert "a.png" in opened


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs Linux, for /dev/full")
@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_full_device_is_one_clear_line_and_stays_a_device(
    folder: Path, weights: str, option: str
) -> None:
    done = run("in/sub", "--whole", "--weights", weights, option, "/dev/full")
    assert isinstance(done.exception, ConfigError)
    assert "cannot write /dev/full: No space left on device" in str(done.exception)
    assert Path("/dev/full").is_char_device()


def test_wrong_weights_and_device_are_clear(folder: Path, weights: str) -> None:
    (folder / "cut.safetensors").write_bytes(Path(weights).read_bytes()[:1000])
    for name, message in (("absent.safetensors", "no weights at"), ("cut.safetensors", "damaged")):
        done = run("in/sub", "--whole", "--weights", name)
        assert isinstance(done.exception, WeightsError)
        assert message in str(done.exception)
    done = run("in/sub", "--whole", "--weights", weights, "--device", "toaster")
    assert isinstance(done.exception, ConfigError)


def test_demo_refuses_a_folder_it_cannot_write(folder: Path, weights: str) -> None:
    (folder / "file").touch()
    for out in ("file", "file/below"):
        done = CliRunner().invoke(app, ["demo", "--out", out, "--weights", weights])
        assert isinstance(done.exception, ConfigError)
        assert str(done.exception).startswith(f"cannot write {out}/pictures: file is a file")


def test_help_states_the_exit_status() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "0, everything was judged; 1, some files could not be judged" in text


@pytest.mark.parametrize("name", ["predict", "demo"])
def test_the_command_loads_nothing_heavy(name: str) -> None:
    code = (
        "import sys, runpy;"
        f"runpy.run_path({str(CLI / f'{name}.py')!r});"
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_demo_judges_every_picture_of_its_manifest(folder: Path, weights: str) -> None:
    done = CliRunner().invoke(app, ["demo", "--out", "demo", "--weights", weights])
    assert done.exit_code == 0, done.exception
    rows = (folder / "demo/pictures/manifest.csv").read_text().splitlines()[1:]
    page = (folder / "demo/report.html").read_text()
    assert page.count("<article") == len(rows)
    assert str(folder) not in page
    for row in rows:
        name = Path(row.split(",")[0]).name
        assert name in done.stdout
        assert f"<h3>{name}</h3>" in page or f"/{name}," in page
    reals = sum(",real," in row for row in rows)
    assert done.stdout.count("right") == len(rows) - reals  # threshold 0 calls everything fake
