"""Pictures, films and broken files together: all in their order, each judged as what it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from films import Brightness, Squares, draw, encode
from mfclip.card import Card
from mfclip.predict.faces import Crop
from mfclip.predict.files import find_files
from mfclip.predict.mixed import judge_files
from mfclip.predict.prediction import Failure, Prediction, Skipped
from mfclip.predict.predictor import Predictor
from mfclip.predict.video_prediction import VideoPrediction


@pytest.fixture
def judge() -> Predictor:
    return Predictor(Brightness(), Card(resize=16), device="cpu", finder=Squares())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, grey in (("a.png", 60), ("c.png", 120), ("d.mp4", 200)):
        Image.fromarray(draw((10, 20, 40, grey))).save(tmp_path / name, "PNG")
    encode(tmp_path / "b.mkv", [draw((10, 20, 40, 240))] * 4, lossless=True)
    encode(tmp_path / "e.mkv", [draw()] * 4, lossless=True)
    (tmp_path / "f.mp4").touch()
    (tmp_path / "g.avi").write_bytes(b"no film" * 100)
    encode(tmp_path / "h.mkv", [draw((10, 20, 40, 90))] * 4).rename(tmp_path / "h.jpg")
    return tmp_path


def test_a_folder_of_everything(judge: Predictor, folder: Path) -> None:
    inputs = [*find_files([str(folder)]), Failure("i", "found earlier")]
    results = list(judge_files(judge, inputs, batch_size=2))
    paths = [Path(result.path or "").name for result in results]
    assert paths == ["a.png", "b.mkv", "c.png", "d.mp4", "e.mkv", "f.mp4", "g.avi", "h.jpg", "i"]
    kinds = [Prediction, VideoPrediction, *[Prediction] * 2, *[Failure] * 3, VideoPrediction]
    assert [type(result) for result in results] == [*kinds, Failure]
    greys = [60, 240, 120, 200, None, None, None, 90]
    for result, grey in zip(results, greys, strict=False):
        if grey is None:
            assert isinstance(result, Failure)
        else:
            assert not isinstance(result, Failure)
            assert result.score == pytest.approx(grey / 255, abs=0.01)
    errors = [result.error for result in results if isinstance(result, Failure)]
    begins = (
        "no face found in any of the 4 frames",
        "the file is empty",
        "not a video in a format that is read",
    )
    for error, begin in zip(errors, begins, strict=False):
        assert error.startswith(begin)


def test_content_decides_and_what_is_left_out_is_listed(judge: Predictor, tmp_path: Path) -> None:
    face = Image.fromarray(draw((10, 20, 40, 90)))
    for name, kind in (("a.JFIF", "JPEG"), ("b.jpe", "JPEG"), ("c", "PNG"), ("d.txt", "WEBP")):
        face.save(tmp_path / name, kind, **({"lossless": True} if kind == "WEBP" else {}))
    encode(tmp_path / "e.mp4", [draw((10, 20, 40, 90))] * 4).rename(tmp_path / "e.3gp")
    (tmp_path / "f.xmp").write_text("<a/>")
    (tmp_path / "g.jpg").write_text("no image")
    (tmp_path / "h.sqlite").touch()
    os.mkfifo(tmp_path / "i.png")
    results = {Path(r.path or "").name: r for r in judge_files(judge, find_files([str(tmp_path)]))}
    assert [type(results[name]) for name in ("a.JFIF", "b.jpe", "c", "d.txt")] == [Prediction] * 4
    assert isinstance(results["e.3gp"], VideoPrediction)
    assert isinstance(results["f.xmp"], Skipped)
    assert results["f.xmp"].reason == "neither an image nor a video"
    for name, words in (("g.jpg", "not an image"), ("i.png", "not a regular file")):
        failure = results[name]
        assert isinstance(failure, Failure)
        assert words in failure.error
    assert isinstance(results["h.sqlite"], Skipped)
    (named,) = judge_files(judge, [tmp_path / "f.xmp"])  # somebody asked for it
    assert isinstance(named, Failure)


def test_whatever_an_input_raises_is_one_row(
    judge: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 195 mutated videos ended a folder, with no JSON at all."""

    def raise_anything(*_: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'name'")

    class Fragile(Squares):
        def find(self, picture: np.ndarray) -> list[Crop]:
            if picture.max() == 120:
                raise MemoryError
            return super().find(picture)

    monkeypatch.setattr("mfclip.predict.video.scan", raise_anything)
    results = list(judge_files(judge.using(finder=Fragile()), find_files([str(folder)])))
    names = ["a.png", "b.mkv", "c.png", "d.mp4", "e.mkv", "f.mp4", "g.avi", "h.jpg"]
    assert [Path(result.path or "").name for result in results] == names
    kinds = [Prediction if name in {"a.png", "d.mp4"} else Failure for name in names]
    assert [type(result) for result in results] == kinds
    errors = [result.error for result in results if isinstance(result, Failure)]
    assert errors[0] == (
        "unexpected error (AttributeError: 'NoneType' object has no attribute 'name'); the file "
        "may be damaged, get it anew"
    )
    assert errors[1] == "unexpected error (MemoryError); the file may be damaged, get it anew"


def test_options_reach_the_films(judge: Predictor, folder: Path) -> None:
    (few,) = judge_files(judge, [folder / "b.mkv"], count=2)
    (thirds,) = judge_files(judge, [folder / "b.mkv"], every=3)
    assert isinstance(few, VideoPrediction)
    assert isinstance(thirds, VideoPrediction)
    assert (few.judged, thirds.judged) == ((1, 3), (0, 3))


def test_no_more_files_are_taken_than_are_read_ahead(judge: Predictor, folder: Path) -> None:
    taken: list[str] = []

    def inputs() -> Iterator[Path]:
        for name in ("b.mkv", "f.mp4", *["a.png"] * 10):
            taken.append(name)
            yield folder / name

    with closing(judge_files(judge, inputs(), batch_size=2)) as results:
        assert isinstance(next(results), VideoPrediction)
        assert len(taken) <= 3


def test_kept_pixels_are_those_of_the_pictures(judge: Predictor, folder: Path) -> None:
    results = judge_files(judge, [folder / "a.png", folder / "b.mkv"], keep_pixels=True)
    picture = next(results)
    assert isinstance(picture, Prediction)
    assert picture.pixels is not None
    assert np.abs(picture.pixels.astype(int) - 60).max() <= 1
