"""`mfclip predict` on films: table, JSON, page, copies and what is refused before the work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from films import Brightness, Squares, draw, encode
from mfclip.card import read_card
from mfclip.cli.predict import judge
from mfclip.errors import ConfigError
from mfclip.media.video import probe
from mfclip.predict.predictor import Predictor


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two films of one name, a broken one and a picture."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, grey in (("a", 230), ("sub/a", 60)):
        shown = [draw((10 + 2 * i, 20, 40, grey)) for i in range(6)]
        encode(tmp_path / "in" / f"{name}.mkv", shown, lossless=True)
    Image.fromarray(draw((10, 20, 40, 60))).save(tmp_path / "in" / "photo.png")
    (tmp_path / "in" / "broken.mp4").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*names: str, **options: Any) -> Result:
    """Call `judge` with a predictor for squares in the place of one that is loaded."""
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    predictor = Predictor(Brightness(), card, device="cpu", finder=Squares())
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise typer.Exit(judge(predictor, list(names), **options))

    return CliRunner().invoke(app, [])


def test_table_shows_score_line_and_moment(folder: Path) -> None:
    done = run("in")
    assert done.exit_code == 1  # the broken one
    (first, second) = (line for line in done.stdout.splitlines() if "±" in line)
    assert "0.902 ± 0.000" in first
    assert "██████" in first
    assert "00:00.000 (0.902)" in first
    assert "6 of 6" in first
    assert "real" in second
    assert "▂▂▂▂▂▂" in second
    assert "1 face judged: 0 fake, 0 uncertain, 1 real." in done.stdout
    assert "2 videos judged: 1 fake, 0 uncertain, 1 real." in done.stdout
    assert "not judged: in/broken.mp4: the file is empty" in done.stderr


def test_json_has_videos_beside_predictions_and_errors(folder: Path) -> None:
    run("in", json="out.json", frames=3)
    document = json.loads((folder / "out.json").read_text())
    assert [entry["path"] for entry in document["videos"]] == ["in/a.mkv", "in/sub/a.mkv"]
    assert [entry["path"] for entry in document["predictions"]] == ["in/photo.png"]
    assert [entry["path"] for entry in document["errors"]] == ["in/broken.mp4"]
    (track,) = document["videos"][0]["tracks"]
    assert [frame["index"] for frame in track["frames"]] == [1, 3, 5]


def test_every_takes_the_place_of_frames(folder: Path) -> None:
    run("in/a.mkv", json="out.json", every=4)
    (video,) = json.loads((folder / "out.json").read_text())["videos"]
    assert [frame["index"] for frame in video["tracks"][0]["frames"]] == [0, 4]


def test_page_shows_film_and_picture(folder: Path) -> None:
    done = run("in", report=folder / "out.html")
    page = (folder / "out.html").read_text()
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert re.findall(r'<article.*?data-kind="(\w+)"', page) == ["video", "picture", "video"]
    assert page.count('class="plot"') == 2
    assert "2 videos judged: 1 called forged, 0 uncertain, 1 called real." in page
    assert "1: at 0:00.0, score 0.902" in page
    assert str(folder) not in page


def test_one_film_is_copied_to_a_file(folder: Path) -> None:
    assert run("in/a.mkv", annotate=Path("new/copy.mp4")).exit_code == 0
    assert probe(folder / "new/copy.mp4").num_frames == 6


def test_several_are_copied_to_a_folder_and_copies_are_not_judged(folder: Path) -> None:
    done = run("in", annotate=Path("in/zz"))
    copies = sorted(path.name for path in (folder / "in/zz").iterdir())
    assert copies == ["a-annotated-2.mp4", "a-annotated.mp4"]
    assert "2 videos judged" in done.stdout


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (["in"], "copy.mp4", "is one file, but several videos were named; name a folder"),
        (["in/photo.png"], "copy.mp4", "there is none among the files named"),
        (["in/a.mkv"], "in/a.mkv", "is the video itself"),
        (["in/a.mkv"], "copy.webm", "a copy's name ends in one of .m4v, .mkv, .mov, .mp4"),
        (["in/a.mkv"], "in/photo.png/copy.mp4", "it is a file, not a folder"),
        (["in/a.mkv"], "in/photo.png", "it is a file, not a folder"),
    ],
)
def test_a_copy_that_cannot_be_is_refused_before_anything_is_judged(
    folder: Path, names: list[str], target: str, message: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = run(*names, annotate=Path(target), json="out.json")
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert sorted(folder.rglob("*")) == before


def test_a_film_whose_size_changes_is_judged_but_not_copied(folder: Path) -> None:
    parts = [draw((10, 20, 40, 90), size=size) for size in ((96, 256), (128, 320))]
    with (folder / "joined.ts").open("wb") as joined:
        for number, part in enumerate(parts):
            times = [800 * number + 40 * i for i in range(10)]
            path = encode(folder / f"{number}.ts", [part] * 10, times=times)
            joined.write(path.read_bytes())
    done = run("joined.ts", annotate=Path("copies"))
    assert done.exit_code == 0
    assert "no copy: expected pictures of" in done.stderr
    assert "1 video judged" in done.stdout
    assert list((folder / "copies").iterdir()) == []
