"""The JSON Schema that is shipped against what is really written, and against the documentation."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from PIL import Image

from films import Brightness, Squares, draw, encode
from mfclip.card import read_card
from mfclip.predict.face_reader import FoundFile
from mfclip.predict.mixed import judge_files
from mfclip.predict.prediction import SCHEMA, Failure
from mfclip.predict.predictor import Predictor
from mfclip.report.results import to_json

TEXT = files("mfclip.predict").joinpath("schema.json").read_text("utf-8")
DEFINITION: dict[str, Any] = json.loads(TEXT)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def documents(
    predictor: Predictor, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Pictures, a video, a failure; and all that the embedded weights' card says."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 120, 3), np.uint8)).save(folder / "a.png")
    film = encode(folder / "b.mkv", [draw((10, 20, 40, grey)) for grey in (40, 200, 90)])
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    bright = Predictor(Brightness(), card, device="cpu", finder=Squares())
    (folder / "d.txt").write_text("a note")
    inputs = [folder / "a.png", Failure("c.jpg", "empty"), FoundFile(folder / "d.txt")]
    rich = list(judge_files(predictor, inputs))
    filmed = list(judge_files(bright, [film]))
    embedded = Predictor.load(device="cpu", engine="torch").describe()
    return [
        to_json(rich, predictor.describe()),
        to_json(filmed, bright.describe()),
        to_json([], embedded),
    ]


def test_what_is_written_fits_the_schema(documents: list[dict[str, Any]]) -> None:
    validator = jsonschema_rs.validator_for(DEFINITION)
    for document in documents:
        validator.validate(json.loads(json.dumps(document)))
    assert [len(d["predictions"]) + len(d["videos"]) for d in documents] == [1, 1, 0]
    assert DEFINITION["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), 1),
        (("predictions", 0, "score"), 1.5),
        (("predictions", 0, "verdict"), "genuine"),
        (("predictions", 0, "sha256"), "abc"),
        (("predictions", 0, "patch", "left"), 0.5),
        (("predictions", 0, "kinds", "family", 0, "probability"), "high"),
        (("model", "verdict", "basis"), "guess"),
        (("errors", 0), {"path": None}),
        (("skipped", 0), {"path": "a.txt"}),
        (("predictions", 0, "unreliable"), None),
    ],
)
def test_a_wrong_document_does_not_fit(
    documents: list[dict[str, Any]], place: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(json.dumps(documents[0]))
    entry: Any = document
    for step in place[:-1]:
        entry = entry[step]
    entry[place[-1]] = value
    assert not jsonschema_rs.validator_for(DEFINITION).is_valid(document)


@pytest.mark.parametrize(
    "kind", ["prediction", "video", "track", "frame", "kind", "error", "skipped"]
)
def test_nothing_is_written_that_the_schema_does_not_name(
    documents: list[dict[str, Any]], kind: str
) -> None:
    named = set(DEFINITION["$defs"][kind]["properties"])
    pictures, films, _ = documents
    video = films["videos"][0]
    found = {
        "prediction": pictures["predictions"],
        "video": [video],
        "track": video["tracks"],
        "frame": [*video["moments"], *video["tracks"][0]["frames"]],
        "kind": pictures["predictions"][0]["kinds"]["family"],
        "error": pictures["errors"],
        "skipped": pictures["skipped"],
    }
    assert {key for entry in found[kind] for key in entry} == named


def test_every_key_is_documented() -> None:
    page = (DOCS / "predict.md").read_text("utf-8")
    for kind in ("prediction", "model", "bands", "kind", "error", "skipped"):
        for key in DEFINITION["$defs"][kind]["properties"]:
            assert f"`{key}`" in page, key
