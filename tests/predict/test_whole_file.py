from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TextIO

import pytest

from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Result, to_json
from mfclip.predict.whole_file import JsonResults, write_output, write_whole

KINDS = {"family": (Kind("gan", 0.75), Kind("real", 0.25))}
FAKE = Prediction(
    path="a.jpg",
    score=0.5,
    threshold=0.5,
    kinds=KINDS,
    patch=Box(0, 112, 112, 224),
    image_size=224,
    face=None,
    width=300,
    height=200,
    sha256="ab",
    warnings=("small",),
)
RESULTS: list[Result] = [Failure("z.jpg", "empty"), FAKE, Failure(None, 'odd "array"')]
PREDICTION = {
    "path": "a.jpg",
    "score": 0.5,
    "verdict": "fake",
    "threshold": 0.5,
    "kinds": {
        "family": [{"name": "gan", "probability": 0.75}, {"name": "real", "probability": 0.25}]
    },
    "patch": {"left": 0, "top": 112, "right": 112, "bottom": 224},
    "image_size": 224,
    "face": None,
    "width": 300,
    "height": 200,
    "sha256": "ab",
    "warnings": ["small"],
}


def streamed(results: list[Result], model: dict[str, object]) -> str:
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


def test_schema_1_is_written_out_in_full() -> None:
    assert to_json(RESULTS, {"name": "m"}) == {
        "schema": 1,
        "model": {"name": "m"},
        "predictions": [PREDICTION],
        "errors": [
            {"path": "z.jpg", "error": "empty"},
            {"path": None, "error": 'odd "array"'},
        ],
    }


@pytest.mark.parametrize("results", [[], RESULTS, [FAKE, FAKE], RESULTS[:1]])
def test_streamed_json_is_the_json_of_all_results(results: list[Result]) -> None:
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
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


def test_verdict_turns_at_the_threshold() -> None:
    verdicts = [
        Prediction(None, score, 0.4, {}, None, 224, None, 1, 1).verdict
        for score in (0.0, 0.39, 0.4, 1.0)
    ]
    assert verdicts == ["real", "real", "fake", "fake"]


def test_likely_kind_passes_over_real() -> None:
    kinds = {"family": (Kind("real", 0.6), Kind("gan", 0.4)), "label": (Kind("real", 1.0),)}
    prediction = Prediction(None, 0.9, 0.5, kinds, None, 224, None, 1, 1)
    assert prediction.likely_kind("family") == Kind("gan", 0.4)
    assert prediction.likely_kind("label") is None
    assert prediction.likely_kind("generator") is None
