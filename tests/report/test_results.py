from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TextIO

import pytest

from mfclip.card import Bands
from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Skipped
from mfclip.predict.video_prediction import AnyResult, FrameScore, Track, VideoPrediction
from mfclip.report.results import JsonResults, to_json
from mfclip.runtime.whole_file import write_output, write_whole

KINDS = {"family": (Kind("gan", 0.75, 0.5), Kind("real", 0.25))}
FAKE = Prediction(
    path="a.jpg",
    score=0.5,
    bands=Bands(0.3, 0.6),
    kinds=KINDS,
    patch=Box(0, 112, 112, 224),
    image_size=224,
    face=None,
    width=300,
    height=200,
    sha256="ab",
    warnings=("small",),
    unreliable=("small",),
)
MOMENTS = (FrameScore(3, 0.1204, 0.75, Box(1, 2, 31, 42)), FrameScore(9, 61.5, 0.25, None))
TRACK = Track(2, MOMENTS, KINDS)
VIDEO = VideoPrediction(
    path="a.mp4",
    tracks=(TRACK,),
    suspect=TRACK,
    moments=MOMENTS[:1],
    bands=Bands(0.3, 0.6),
    seconds=62.0,
    fps=25.0,
    width=640,
    height=360,
    codec="h264",
    num_frames=1550,
    judged=(3, 9, 12),
    num_with_face=2,
    sha256="cd",
    warnings=("dark",),
)
RESULTS: list[AnyResult] = [
    Failure("z.jpg", "empty"),
    VIDEO,
    Skipped("notes.txt", "no image"),
    FAKE,
    Failure(None, 'odd "array"'),
]
PREDICTION = {
    "path": "a.jpg",
    "score": 0.5,
    "verdict": "uncertain",
    "real_below": 0.3,
    "fake_from": 0.6,
    "kinds": {
        "family": [
            {"name": "gan", "probability": 0.75, "similarity": 0.5},
            {"name": "real", "probability": 0.25, "similarity": None},
        ]
    },
    "patch": {"left": 0, "top": 112, "right": 112, "bottom": 224},
    "image_size": 224,
    "face": None,
    "width": 300,
    "height": 200,
    "sha256": "ab",
    "warnings": ["small"],
    "unreliable": ["small"],
}

FIRST = {
    "index": 3,
    "seconds": 0.12,
    "score": 0.75,
    "box": {"left": 1, "top": 2, "right": 31, "bottom": 42},
}
VIDEO_JSON = {
    "path": "a.mp4",
    "score": 0.5,
    "spread": 0.25,
    "verdict": "uncertain",
    "real_below": 0.3,
    "fake_from": 0.6,
    "suspect_track": 2,
    "num_frames": 1550,
    "num_judged": 3,
    "num_with_face": 2,
    "kinds": PREDICTION["kinds"],
    "moments": [{"time": "00:00.120", "track": 2, **FIRST}],
    "tracks": [
        {
            "id": 2,
            "score": 0.5,
            "spread": 0.25,
            "frames": [FIRST, {"index": 9, "seconds": 61.5, "score": 0.25, "box": None}],
        }
    ],
    "seconds": 62.0,
    "fps": 25.0,
    "width": 640,
    "height": 360,
    "codec": "h264",
    "sha256": "cd",
    "warnings": ["dark"],
    "unreliable": [],
}


def streamed(results: list[AnyResult], model: dict[str, object]) -> str:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        document = JsonResults(file, model)
        for result in results:
            document.add(result)
        document.close()
        file.seek(0)
        return file.read()


def stop_after(file: TextIO, text: str) -> None:
    file.write(text)
    raise RuntimeError("stopped")


def test_schema_2_is_written_out_in_full() -> None:
    assert to_json(RESULTS, {"name": "m"}) == {
        "schema": 2,
        "model": {"name": "m"},
        "predictions": [PREDICTION],
        "videos": [VIDEO_JSON],
        "errors": [
            {"path": "z.jpg", "error": "empty"},
            {"path": None, "error": 'odd "array"'},
        ],
        "skipped": [{"path": "notes.txt", "reason": "no image"}],
    }


@pytest.mark.parametrize(
    "results", [[], RESULTS, [FAKE, FAKE], [VIDEO, VIDEO, FAKE], RESULTS[:1], RESULTS[2:3]]
)
def test_streamed_json_is_the_json_of_all_results(results: list[AnyResult]) -> None:
    assert json.loads(streamed(results, {"name": "m"})) == to_json(results, {"name": "m"})


def test_names_that_are_no_unicode_survive_in_json() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    text = streamed([Failure(name, "empty")], {})
    assert json.loads(text)["errors"][0]["path"] == name
    text.encode("ascii")


def test_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        streamed([], {"auc": float("nan")})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    with write_whole(path) as file:
        file.write("first")
        file.flush()
        assert not path.exists()
    with pytest.raises(RuntimeError, match="stopped"), write_whole(path) as file:
        stop_after(file, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real" / "out.json")
    with write_whole(link) as file:
        file.write("text")
    assert link.is_symlink()
    assert (tmp_path / "real" / "out.json").read_text() == "text"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs Linux, for named pipes")
def test_a_pipe_is_written_straight_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with write_whole(pipe) as file:
            file.write("text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_the_standard_output_gets_all_or_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with write_output(None) as file:
        file.write("whole")
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "whole"
    with pytest.raises(RuntimeError, match="stopped"), write_output(None) as file:
        stop_after(file, "half")
    assert capsys.readouterr().out == ""


def test_likely_kind_passes_over_real() -> None:
    kinds = {"family": (Kind("real", 0.6), Kind("gan", 0.4)), "label": (Kind("real", 1.0),)}
    prediction = Prediction(None, 0.9, Bands(0.5, 0.5), kinds, None, 224, None, 1, 1)
    assert prediction.likely_kind("family") == Kind("gan", 0.4)
    assert prediction.likely_kind("label") is None
    assert prediction.likely_kind("generator") is None
