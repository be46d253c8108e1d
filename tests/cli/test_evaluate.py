"""``mfclip evaluate``, ``predict`` and ``release`` as a user meets them, bad input above all."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mfclip.card import Card
from mfclip.cli.app import app
from mfclip.config import build_config
from mfclip.detectors import build_detector, save_detector
from mfclip.errors import ConfigError, ManifestError, MfclipError, MissingExtraError, WeightsError
from mfclip.evaluate.metrics import compute_metrics
from mfclip.evaluate.scores import read_scores
from mfclip.predict.faces import WholePicture
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.weights import WeightFile, read_weights, write_weights

HEADING = "path,label,manipulation,family,generator,split,group"
TINY = {
    "name": "mfclip-small",
    "image_size": 64,
    "embed_dim": 16,
    "num_heads": 2,
    "image": {"widths": (4, 8), "convs": (1, 1), "depth": 1},
    "noise": {"widths": (4, 8), "convs": (1, 1), "depth": 1, "patch_size": 32},
    "text": {"depth": 1},
}
CARD = Card(threshold=0.4, temperature=2.0, resize=72)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = build_config({"model": TINY}).model
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(build_detector(settings), settings, path, card=CARD, vision_only=True)
    return path


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three good pictures and four that cannot be read, one of each kind of reason."""
    rng = np.random.default_rng(0)
    for name in ("real.png", "fake[b].png", "fake2.png"):
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(tmp_path / name)
    content = (tmp_path / "real.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty[red].png").touch()
    (tmp_path / "text.png").write_text("hello")
    rows = [
        "real.png,real,,,camera,test,a",
        "fake[b].png,fake,face_swap,gan,A,test,b",
        "fake2.png,fake,face_swap,gan,A,test,c",
        "cut.png,real,,,camera,test,d",
        "empty[red].png,real,,,camera,test,e",
        "text.png,fake,face_swap,gan,A,test,f",
        "gone.png,fake,face_swap,gan,A,test,g",
        "real.png,real,,,camera,reals,a",
        "cut.png,real,,,camera,unreadable,d",
    ]
    (tmp_path / "m.csv").write_text("\n".join([HEADING, *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def evaluate(weights: Path, *words: object) -> Result:
    fixed = ("--device", "cpu", "--set", "evaluate.bootstrap=20")
    return run("evaluate", "--manifest", "m.csv", "--weights", weights, *fixed, *words)


def refusal(done: Result, kind: type[MfclipError]) -> str:
    """Return the one line that `main` prints after ``error: ``, with status 2."""
    assert isinstance(done.exception, kind), done.exception or done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_good_pictures_are_scored_and_bad_ones_listed(data: Path, weights: Path) -> None:
    done = evaluate(weights, "--out", "res")
    assert done.exit_code == 1
    listed = {line.split(": ")[1]: line for line in done.stderr.splitlines() if "scored" in line}
    assert list(listed) == ["cut.png", "empty[red].png", "text.png", "gone.png"]
    reasons = ("damaged or cut short", "empty (0 bytes)", "not an image", "no such file")
    assert all(map(str.__contains__, listed.values(), reasons))
    with (data / "res" / "scores.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == 7
    predictor = Predictor.load(weights, device="cpu", finder=WholePicture())
    for name in ("real.png", "fake[b].png", "fake2.png"):
        (alone,) = predictor.predict(name)
        assert isinstance(alone, Prediction)
        assert float(rows[name]["score"]) == pytest.approx(alone.score, abs=1e-5)
    errors = json.loads((data / "res" / "metrics.json").read_text())["errors"]
    assert [error["path"] for error in errors] == list(listed)
    assert "4 sample(s) not scored" in (data / "res" / "metrics.md").read_text()
    assert {"all", "A", "manipulation", "face_swap", "family", "gan"} <= set(done.stdout.split())


def test_one_class_is_said_to_be_not_defined(data: Path, weights: Path) -> None:
    done = evaluate(weights, "--split", "reals", "--out", "res")
    assert done.exit_code == 0, done.exception
    assert "n/a = not defined: only reals" in " ".join(done.stdout.split())
    read = json.loads((data / "res" / "metrics.json").read_text())
    assert read["rows"][0]["undefined"]["auc"] == "not defined: only reals"


@pytest.fixture
def films(data: Path) -> Path:
    """Six videos of three frames each; every second one is fake."""
    rng = np.random.default_rng(1)
    rows = [f"{HEADING},video_id"]
    for video in range(6):
        for number in range(3):
            name = f"v{video}-{number}.png"
            Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(data / name)
            label = "fake,face_swap,gan,A" if video % 2 else "real,,,camera"
            rows.append(f"{name},{label},test,,v{video}")
    (data / "films.csv").write_text("\n".join(rows) + "\n")
    return data


def test_videos_are_counted_besides_their_frames(films: Path, weights: Path) -> None:
    fixed = ("--weights", weights, "--device", "cpu", "--set", "evaluate.bootstrap=20")
    done = run("evaluate", "--manifest", "films.csv", "--out", "res", "--pool", "max", *fixed)
    assert done.exit_code == 0, done.exception
    frames, videos = (
        read_scores(films / "res/scores.csv"),
        read_scores(films / "res/scores-video.csv"),
    )
    assert (len(frames), len(videos)) == (18, 6)
    for video in videos:
        assert video.score == max(s.score for s in frames if s.video_id == video.path)
    read = json.loads((films / "res/metrics-video.json").read_text())
    assert (read["unit"], read["pool"], read["bootstrap"]["num_groups"]) == ("video", "max", 6)
    expected = compute_metrics(videos.score, videos.target, fitted_threshold=CARD.threshold)
    assert read["rows"][0]["figures"]["auc"] == expected.auc
    shown = " ".join(done.stdout.split())
    assert "test: 9 reals" in shown
    assert "test, videos (max of frames): 3 reals" in shown

    done = run("evaluate", "--manifest", "films.csv", "--out", "res", "--unit", "frame", *fixed)
    assert done.exit_code == 0
    left = {file.name for file in (films / "res").iterdir()}
    assert left == {"scores.csv", "metrics.json", "metrics.md"}  # no videos of an earlier run


def test_counting_videos_where_there_are_none_is_refused(data: Path, weights: Path) -> None:
    message = refusal(evaluate(weights, "--unit", "video"), ManifestError)
    assert "no row of split 'test' has a video_id" in message


def test_several_manifests_are_compared(films: Path, weights: Path) -> None:
    rows = (films / "m.csv").read_text().splitlines()
    (films / "stills.csv").write_text("\n".join(rows[:4]) + "\n")
    fixed = ("--weights", weights, "--device", "cpu", "--set", "evaluate.bootstrap=20")
    both = ("--manifest", "films.csv", "--manifest", "stills.csv")
    done = run("evaluate", *both, "--out", "res", *fixed)
    assert done.exit_code == 0, done.exception
    read = json.loads((films / "res/cross_auc.json").read_text())
    assert read["frame"]["domains"] == ["films", "stills"]
    assert set(read) == {"schema", "frame"}  # stills has no videos to compare
    aucs = [
        json.loads((films / "res" / name / "metrics.json").read_text())["rows"][0]["figures"]["auc"]
        for name in ("films", "stills")
    ]
    assert read["frame"]["mean_auc"] == pytest.approx(np.mean(aucs))
    assert f"Cross-AUC {read['frame']['cross_auc']:.3f}" in " ".join(done.stdout.split())


def test_faces_cut_in_another_way_are_told(data: Path, weights: Path) -> None:
    file = read_weights(weights)
    card = file.card.changed(face_margin=1.15, face_align=False)
    write_weights(replace(file, card=card), data / "cut.safetensors")
    (data / "framing.json").write_text('{"face_margin": 1.3, "face_align": true}')
    done = evaluate(data / "cut.safetensors", "--out", "res")
    assert "warning: m: these faces were cut with margin 1.3, aligned" in done.stderr
    (data / "framing.json").write_text('{"face_margin": 1.15, "face_align": false}')
    assert "warning" not in evaluate(data / "cut.safetensors", "--out", "res").stderr


def test_manifests_that_cannot_be_told_apart_are_refused(data: Path, weights: Path) -> None:
    message = refusal(evaluate(weights, "--manifest", "./m.csv"), ConfigError)
    assert "differ in file or folder name" in message


def test_nothing_scored_ends_with_two(data: Path, weights: Path) -> None:
    done = evaluate(weights, "--split", "unreadable", "--out", "res")
    assert done.exit_code == 2
    assert "n/a = not defined: no samples" in " ".join(done.stdout.split())
    assert done.stderr.count("not scored: cut.png") == 1


def test_place_that_cannot_be_written_is_refused_before_scoring(data: Path, weights: Path) -> None:
    message = refusal(evaluate(weights, "--out", "real.png"), ConfigError)
    assert message == "expected --out to be followed by a folder, but got 'real.png'"
    (data / "file").touch()
    for out in ("file", "real.png/below"):
        message = refusal(evaluate(weights, "--out", out), ConfigError)
        assert message.startswith(f"cannot write {out}: ")
        assert "a file, not a folder; choose another place" in message
    (data / "res" / "metrics.json").mkdir(parents=True)  # found out only when it is written
    message = refusal(evaluate(weights, "--out", "res"), ConfigError)
    assert message.startswith("cannot write res: Is a directory")


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["--split", "tset"], ManifestError, "no sample is in split 'tset'; splits found: reals"),
        (["--fit-split", "test"], ConfigError, "fitted on 'test' itself says nothing"),
        (["--set", "evaluate.botstrap=3"], ConfigError, "did you mean 'evaluate.bootstrap'?"),
        (["--set", "evaluate.bootstrap=many"], ConfigError, "but got 'many'"),
        (["--device", "toaster"], ConfigError, "no device 'toaster' on this machine; expected"),
    ],
)
def test_wrong_settings_name_what_was_expected(
    data: Path, weights: Path, words: list[str], kind: type[MfclipError], message: str
) -> None:
    assert message in refusal(evaluate(weights, *words), kind)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,family\na.png,gan\n", "m.csv lacks the column(s) label, manipulation, generator"),
        (f"{HEADING}\na.png,forged,,,,test,\n", "row 1: expected label to be one of"),
        (f"{HEADING}\n", "m.csv holds no rows"),
    ],
)
def test_wrong_manifest_is_refused(data: Path, weights: Path, text: str, message: str) -> None:
    (data / "m.csv").write_text(text)
    assert message in refusal(evaluate(weights), ManifestError)


def _cut(good: Path, bad: Path) -> None:
    bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def _resize(good: Path, bad: Path) -> None:
    file = read_weights(good)
    write_weights(WeightFile(file.tensors, {**file.settings, "embed_dim": 32}, file.card), bad)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "is damaged or not a safetensors file"),
        (_resize, "belongs to another model"),
        (lambda _, bad: bad.touch(), "is damaged or not a safetensors file"),
        (lambda *_: None, "no weights at bad.safetensors; expected a .safetensors file"),
    ],
    ids=["cut in half", "another size", "empty", "absent"],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_weights_that_do_not_fit_are_refused(
    data: Path, weights: Path, spoil: object, message: str, command: str
) -> None:
    bad = Path("bad.safetensors")
    spoil(weights, bad)  # type: ignore[operator]
    done = evaluate(bad) if command == "evaluate" else run("predict", "real.png", "--weights", bad)
    assert message in refusal(done, WeightsError)


def test_missing_extra_is_said_before_anything_is_scored(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    done = evaluate(Path("absent.safetensors"))  # would be found out next
    assert "pip install 'mfclip[train]'" in refusal(done, MissingExtraError)


@pytest.mark.parametrize("out", ["real.png/below.safetensors", "real.png/x/y.safetensors"])
def test_release_refuses_a_place_it_cannot_write(data: Path, out: str) -> None:
    done = run("release", "run", "--manifest", "m.csv", "--out", out)
    assert "real.png" in refusal(done, ConfigError)
    assert "a file, not a folder" in str(done.exception)


@pytest.mark.parametrize("command", ["evaluate", "release"])
def test_the_command_loads_nothing_heavy(command: str) -> None:
    file = Path(str(files("mfclip").joinpath("cli"))) / f"{command}.py"
    code = f"import sys, runpy; runpy.run_path({str(file)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_states_the_exit_status() -> None:
    text = " ".join(run("evaluate", "--help").stdout.split())
    assert "0, everything was scored; 1, some images could not be scored" in text
