from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
from mfclip.cli.predict import predict
from mfclip.cli.result_table import MAX_NOTES
from mfclip.config import build_config
from mfclip.detectors import save_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.labels import Labels
from mfclip.model.build import build_mfclip
from mfclip.predict import mixed
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


OUTPUTS = [("--json", "json"), ("--report", "html"), ("--out", "jsonl"), ("--out", "csv")]


@pytest.mark.parametrize(("option", "ending"), OUTPUTS)
def test_an_output_that_cannot_be_written_is_one_clear_line(
    folder: Path, weights: str, option: str, ending: str
) -> None:
    (folder / "file").touch()
    done = run("in/sub", "--whole", "--weights", weights, option, f"file/r.{ending}")
    assert isinstance(done.exception, ConfigError)
    expected = "cannot write file: it is a file, not a folder; choose another place"
    assert str(done.exception).startswith(expected)


@pytest.mark.parametrize(("option", "ending"), OUTPUTS)
def test_an_output_is_tried_before_the_pictures_are_judged(
    folder: Path, weights: str, option: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    opened: list[object] = []
    original = os.open

    def watched(path: Any, *rest: Any, **named: Any) -> int:
        opened.append(Path(path).name)
        return original(path, *rest, **named)

    monkeypatch.setattr(os, "open", watched)
    run("in/sub/a.png", "--whole", "--weights", weights, option, f"file/r.{ending}")
    assert "a.png" not in opened
    run("in/sub/a.png", "--whole", "--weights", weights, option, f"new/r.{ending}")
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
        assert str(done.exception).startswith(f"cannot write {out}: ")
        assert "is a file, not a folder" in str(done.exception)


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


def test_demo_gives_the_scores_that_predict_gives(folder: Path, weights: str) -> None:
    """Once the demo took whole images as faces, and README's next command did not."""
    done = CliRunner().invoke(app, ["demo", "--out", "demo", "--weights", weights])
    assert "The same scores for these files: mfclip predict demo/pictures" in done.stdout
    table = [line.split() for line in done.stdout.splitlines() if ".jpg" in line]
    shown = [(cells[0], next(cell for cell in cells if "." in cell[:2])) for cells in table]
    found = run("demo/pictures/real", "demo/pictures/fake", "--weights", weights, "--json", "-")
    judged = {
        Path(entry["path"]).name: f"{entry['score']:.3f}"
        for entry in json.loads(found.stdout)["predictions"]
    }
    assert dict(shown) == judged
    assert len(shown) == 10


ROWS = {"jsonl": lambda text: [json.loads(line) for line in text.splitlines()][1:],
        "csv": lambda text: list(csv.DictReader(io.StringIO(text)))}  # fmt: skip


@pytest.mark.parametrize("ending", ROWS)
def test_every_input_has_a_row(folder: Path, weights: str, ending: str) -> None:
    out = folder / f"new/rows.{ending}"
    done = run("in", "--whole", "--weights", weights, "--out", str(out), "--json", "r.json")
    assert done.exit_code == 1
    rows = ROWS[ending](out.read_text())
    document = json.loads((folder / "r.json").read_text())
    scores = {entry["path"]: entry["score"] for entry in document["predictions"]}
    errors = {entry["path"]: entry["error"] for entry in document["errors"]}
    assert {r["path"]: float(r["score"]) for r in rows if r["record"] == "prediction"} == scores
    assert {r["path"]: r["error"] for r in rows if r["record"] == "error"} == errors
    assert [r["path"] for r in rows] == [
        "in/b[red].png", "in/empty.jpg", "in/gone.jpg", "in/sub/a.png", "in/text.png",
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ROWS)
@pytest.mark.parametrize("judged", [0, 1, 3])
def test_an_interrupted_run_goes_on_to_the_same_file(
    folder: Path, weights: str, ending: str, judged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["in", "--whole", "--weights", weights, "--batch-size", "1", "--out"]
    run(*command, f"whole.{ending}")
    with monkeypatch.context() as patched:
        interrupt_after(judged, patched)
        done = run(*command, f"cut.{ending}")
    assert done.exit_code == 130
    assert "the same command with --resume goes on" in done.stderr
    cut = (folder / f"cut.{ending}").read_text()
    assert (folder / f"whole.{ending}").read_text().startswith(cut)
    assert len(ROWS[ending](cut)) == max(judged - 1, 0)  # the last input may have more faces
    again = run(*command, f"cut.{ending}")
    assert "cut." in str(again.exception)
    assert "--resume goes on with it" in str(again.exception)
    assert (folder / f"cut.{ending}").read_text() == cut
    done = run(*command, f"cut.{ending}", "--resume")
    assert (folder / f"cut.{ending}").read_text() == (folder / f"whole.{ending}").read_text()
    assert done.exit_code == 1
    done = run(*command, f"cut.{ending}", "--resume")  # nothing is left
    assert "5 files were looked at before, 3 of them not judged" in done.stderr
    assert done.exit_code == 1
    for more in (["--threshold", "0.5"], ["--frames", "3"]):
        done = run(*command, f"cut.{ending}", "--resume", *more)
        assert "holds results of other weights or settings" in str(done.exception)


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl+C come when so many results were given."""
    original = mixed.judge_files

    def judge_some(*rest: Any, **named: Any) -> Iterator[Any]:
        for number, result in enumerate(original(*rest, **named)):
            if number == count:
                signal.raise_signal(signal.SIGINT)
            yield result

    monkeypatch.setattr(mixed, "judge_files", judge_some)


def test_interrupted_documents_do_not_take_the_place_of_whole_ones(
    folder: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["in", "--whole", "--weights", weights, "--json", "r.json", "--report", "r.html"]
    run(*command)
    before = (folder / "r.json").read_bytes(), (folder / "r.html").read_bytes()
    interrupt_after(3, monkeypatch)  # a face, an empty file, an absent one
    done = run(*command)
    assert done.exit_code == 130
    assert "r.interrupted.json and r.interrupted.html" in done.stderr
    assert ((folder / "r.json").read_bytes(), (folder / "r.html").read_bytes()) == before
    whole, cut = (json.loads((folder / f"r{n}.json").read_text()) for n in ("", ".interrupted"))
    assert cut["predictions"] == whole["predictions"][:1]
    assert cut["errors"] == whole["errors"][:2]
    assert (folder / "r.interrupted.html").read_text().count("<article") == 1
    assert sorted(path.name for path in folder.iterdir()) == [
        "in", "r.html", "r.interrupted.html", "r.interrupted.json", "r.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_terminated_process_keeps_what_was_judged(folder: Path, weights: str) -> None:
    """The real command, and the signal that batch systems send."""
    original = folder / "in/sub/a.png"
    for number in range(120):
        shutil.copy(original, folder / f"in/sub/{number:03}.png")
    command = [str(Path(sys.executable).with_name("mfclip")), "predict", "in/sub", "--whole"]
    command += ["--weights", weights, "--batch-size", "1", "--engine", "torch", "--out"]
    with subprocess.Popen([*command, "cut.jsonl"], cwd=folder, stderr=subprocess.PIPE) as process:
        try:
            end = time.monotonic() + 120
            while not (folder / "cut.jsonl").exists() or count(folder / "cut.jsonl") < 5:
                assert time.monotonic() < end, "five images were not judged in two minutes"
                assert process.poll() is None, "it ended before it was told to"
                time.sleep(0.01)
            process.terminate()
            told = process.communicate(timeout=60)[1].decode()
        finally:
            process.kill()
    assert process.returncode == 143
    assert "interrupted; cut.jsonl holds what was judged" in told
    kept = count(folder / "cut.jsonl")
    assert 5 <= kept < 122
    for out, more in (("cut.jsonl", ["--resume"]), ("whole.jsonl", [])):
        subprocess.run([*command, out, *more], cwd=folder, check=True, capture_output=True)
    assert (folder / "cut.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_resume_is_for_rows_alone(folder: Path, weights: str) -> None:
    for options in (["--json", "r.json"], [], ["--out", "r.json"]):
        done = run("in", "--weights", weights, "--resume", *options)
        assert "--resume goes on with --out FILE.jsonl or FILE.csv" in str(done.exception)
    done = run("in", "--weights", weights, "--out", "r.json", "--json", "-")
    assert "both ask for JSON" in str(done.exception)


def test_rows_in_a_folder_that_is_searched_are_no_input(folder: Path, weights: str) -> None:
    done = run("in/sub", "--whole", "--weights", weights, "--out", "in/sub/rows.jsonl")
    assert done.exit_code == 0
    assert [r["path"] for r in ROWS["jsonl"]((folder / "in/sub/rows.jsonl").read_text())] == [
        "in/sub/a.png"
    ]


@pytest.mark.parametrize("option", ["--json r.json", "--report r.html", "--out r.csv --resume"])
def test_a_command_is_given_again_where_its_results_lie_among_its_images(
    folder: Path, weights: str, option: str
) -> None:
    """Every file of a folder is looked at, but results of an earlier run are no input."""
    flag, name, *more = option.split()
    os.mkfifo(folder / "in/sub/pipe.json")  # nor is it opened, which would wait for ever
    for _ in range(2):
        done = run("in/sub", "--whole", "--weights", weights, flag, f"in/sub/{name}", *more)
        assert "error" not in done.stderr, done.stderr
        assert done.exception is None or isinstance(done.exception, SystemExit)
    shutil.copy(folder / "in/sub/a.png", folder / f"in/sub/{name}")  # an image all the same
    done = run("in/sub", "--weights", weights, flag, f"in/sub/{name}", *more)
    assert "no input is ever overwritten" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "told"),
    [("-", "the standard input is not read"), ("https://example.org/a.jpg", "not fetched")],
)
def test_what_other_programs_read_is_said_not_to_be_read(
    folder: Path, weights: str, name: str, told: str
) -> None:
    done = run(name, "in/sub", "--whole", "--weights", weights)
    assert f"not judged: {name}: " in done.stderr
    assert told in done.stderr
    assert done.exit_code == 1
    assert "1 face judged" in done.stdout
