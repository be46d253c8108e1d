from __future__ import annotations

import csv
import json
import re
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mfclip.card import Bands
from mfclip.errors import ConfigError
from mfclip.predict import schema
from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Skipped
from mfclip.predict.video_prediction import AnyResult, FrameScore, Track, VideoPrediction
from mfclip.report.results import (
    MOST_OF_ONE_INPUT,
    ROW_ENDINGS,
    JsonResults,
    ResultRows,
    Run,
    to_json,
)

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


def test_likely_kind_passes_over_real() -> None:
    kinds = {"family": (Kind("real", 0.6), Kind("gan", 0.4)), "label": (Kind("real", 1.0),)}
    prediction = Prediction(None, 0.9, Bands(0.5, 0.5), kinds, None, 224, None, 1, 1)
    assert prediction.likely_kind("family") == Kind("gan", 0.4)
    assert prediction.likely_kind("label") is None
    assert prediction.likely_kind("generator") is None


RUN = Run({"weights": "here.safetensors", "weights_sha256": "ab", "engine": "torch"}, {"frames": 3})
NAMES = ["a.jpg", 'odd "name", with\nline.jpg', "\udcff.jpg", "c.jpg", "notes.txt"]
GROUPS: list[list[AnyResult]] = [
    [replace(FAKE, path=NAMES[0])] * 2,
    [Failure(NAMES[1], "two\nlines")],
    [replace(VIDEO, path=NAMES[2])],
    [replace(FAKE, path=NAMES[3], score=0.9, face=Box(1, 2, 3, 4), unreliable=())] * 3,
    [Skipped(NAMES[4], "no image")],
]


def write_rows(path: Path, *, resume: bool = False, run: Run = RUN, upto: int = 5) -> ResultRows:
    """Judge all that is left, as the command does."""
    with closing(ResultRows(path, run, resume=resume)) as rows:
        for group in GROUPS[:upto]:
            for result in group:
                if result.path not in rows.done:
                    rows.add(result)
        rows.flush()
    return rows


@pytest.mark.parametrize("ending", ROW_ENDINGS)
def test_a_file_that_was_cut_anywhere_goes_on_to_the_same_file(tmp_path: Path, ending: str) -> None:
    whole, cut = tmp_path / f"whole{ending}", tmp_path / f"cut{ending}"
    write_rows(whole)
    content = whole.read_bytes()
    for end in range(len(content) + 1):
        cut.write_bytes(content[:end])
        rows = write_rows(cut, resume=True)
        assert cut.read_bytes() == content, end
        assert rows.num_errors == (NAMES[1] in rows.done)
    assert rows.done == set(NAMES)


def test_rows_hold_what_the_records_say(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.jsonl")
    head, *rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert (head["record"], head["schema"], head["run"]) == ("run", 2, RUN.key)
    assert head["model"] == RUN.model
    results = [result for group in GROUPS for result in group]
    kept = [
        {k: v for k, v in row.items() if k not in {"record", "run", "num_faces"}} for row in rows
    ]
    assert kept == [json.loads(json.dumps(schema.to_json(result))) for result in results]
    assert [row.get("num_faces") for row in rows] == [2, 2, None, None, 3, 3, 3, None]
    write_rows(tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="", errors="surrogateescape") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [result.path for result in results]
    assert [row["error"] for row in table if row["record"] == "error"] == ["two\nlines"]
    assert (table[-1]["record"], table[-1]["error"]) == ("skipped", "no image")
    last = table[-2]
    assert (float(last["score"]), last["verdict"], last["family"]) == (0.9, "fake", "gan")
    assert [last[f"face_{side}"] for side in ("left", "top", "right", "bottom")] == list("1234")
    assert table[0]["face_left"] == table[0]["family"] == ""  # the whole image, uncertain


@pytest.mark.parametrize("ending", ROW_ENDINGS)
def test_rows_of_another_run_are_refused_and_kept(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r{ending}"
    write_rows(path, upto=2)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already; --resume goes on with it"):
        write_rows(path)
    others = [
        ({**RUN.model, "weights_sha256": "cd"}, RUN.settings, "weights_sha256"),
        (RUN.model, {"frames": 4}, "frames"),
    ]
    for model, settings, name in others:
        told = f" ({name})" if ending == ".jsonl" else ""
        expected = re.escape(f"holds results of other weights or settings{told}; go on with those")
        with pytest.raises(ConfigError, match=expected):
            write_rows(path, resume=True, run=Run(model, settings))
    assert path.read_bytes() == before
    moved = Run({**RUN.model, "weights": "there.safetensors"}, RUN.settings)
    assert write_rows(path, resume=True, run=moved).done == set(NAMES[:2])


@pytest.mark.parametrize("ending", ROW_ENDINGS)
def test_a_file_that_is_not_ours_is_refused_and_kept(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r{ending}"
    for content in (b"hello", b"path,label\na.jpg,real\n", b"[1, 2]\n", b"\xff\n", b"\n"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="was not written by mfclip predict; nothing was ch"):
            write_rows(path, resume=True)
        assert path.read_bytes() == content


@pytest.mark.parametrize("ending", ROW_ENDINGS)
def test_damage_before_the_end_is_no_torn_end(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r{ending}"
    write_rows(path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b"{\n", *lines[2:]])
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="is damaged behind byte"):
        write_rows(path, resume=True)
    assert path.read_bytes() == damaged


def test_a_lost_quote_far_from_the_end_is_no_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    write_rows(path)
    content = path.read_bytes()
    damaged = content + b'"' + b"x\n" * MOST_OF_ONE_INPUT
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="is damaged behind byte"):
        write_rows(path, resume=True)
    assert path.read_bytes() == damaged


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with (
        closing(ResultRows(path, RUN)),
        pytest.raises(ConfigError, match="is being written by another process"),
    ):
        ResultRows(path, RUN, resume=True)
    write_rows(path, resume=True)
