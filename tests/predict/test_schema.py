"""The JSON Schema against what is really written, against the documentation, and against itself
as it was when it was written by hand: what reads schema 2 goes on reading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from PIL import Image

from films import Brightness, Squares, draw, encode
from mfclip.card import Bands, read_card
from mfclip.predict.face_reader import FoundFile
from mfclip.predict.mixed import judge_files
from mfclip.predict.prediction import SCHEMA, Failure, Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.schema import json_schema
from mfclip.report.results import to_json

DEFINITION: dict[str, Any] = json_schema()
DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = DOCS / "predict.schema.json"
GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "schema-2.json").read_text("utf-8")
)
"""The schema that was shipped before it was generated."""


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


@pytest.mark.parametrize("schema", [DEFINITION, GOLDEN], ids=["generated", "golden"])
def test_what_is_written_fits_the_schema(
    documents: list[dict[str, Any]], schema: dict[str, Any]
) -> None:
    validator = jsonschema_rs.validator_for(schema)
    for document in documents:
        validator.validate(json.loads(json.dumps(document)))
    assert [len(d["predictions"]) + len(d["videos"]) for d in documents] == [1, 1, 0]
    assert schema["properties"]["schema"]["const"] == SCHEMA


def test_the_generated_schema_is_the_published_one() -> None:
    written = json.dumps(DEFINITION, indent=1) + "\n"
    assert written == PUBLISHED.read_text("utf-8"), (
        'write it again: python -c "import json, mfclip.predict.schema as s; '
        f'print(json.dumps(s.json_schema(), indent=1))" > docs/{PUBLISHED.name}'
    )


OLD_NAMES = {
    "box": "Box", "kind": "Kind", "rate": "Rate", "bands": "Bands", "model": "Model",
    "prediction": "Prediction", "track": "Track", "video": "Video", "error": "Failure",
    "skipped": "Skipped",
}  # fmt: skip


NEW = {"fitted_on"}
"""Keys that came since; a reader of schema 2 allows for them."""


def test_a_score_that_rounding_carries_over_an_end_is_written_all_the_same() -> None:
    over = Prediction(None, 1 + 1e-7, Bands(0.3, 0.6), {}, None, 224, None, 30, 20)
    assert to_json([over], {})["predictions"][0]["score"] == 1 + 1e-7


@pytest.mark.parametrize("old", OLD_NAMES)
def test_each_record_has_the_keys_it_had(old: str) -> None:
    before, now = GOLDEN["$defs"][old], DEFINITION["$defs"][OLD_NAMES[old]]
    assert now["properties"].keys() - NEW == before["properties"].keys()
    assert set(before["required"]) <= set(now["required"])


def test_names_that_are_no_unicode_are_written_as_they_were() -> None:
    name = b"a\xff.jpg".decode("utf-8", "surrogateescape")
    assert to_json([Failure(name, f"{name}: empty")], {})["errors"] == [
        {"path": name, "error": f"{name}: empty"}
    ]


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
    "kind", ["Prediction", "Video", "Track", "Frame", "Moment", "Kind", "Failure", "Skipped"]
)
def test_nothing_is_written_that_the_schema_does_not_name(
    documents: list[dict[str, Any]], kind: str
) -> None:
    named = set(DEFINITION["$defs"][kind]["properties"])
    pictures, films, _ = documents
    video = films["videos"][0]
    found = {
        "Prediction": pictures["predictions"],
        "Video": [video],
        "Track": video["tracks"],
        "Frame": video["tracks"][0]["frames"],
        "Moment": video["moments"],
        "Kind": pictures["predictions"][0]["kinds"]["family"],
        "Failure": pictures["errors"],
        "Skipped": pictures["skipped"],
    }
    assert {key for entry in found[kind] for key in entry} == named
    assert all(entry.keys() == named for entry in found[kind])


def test_every_key_is_documented() -> None:
    page = (DOCS / "predict.md").read_text("utf-8")
    for kind in ("Prediction", "Model", "Bands", "Kind", "Failure", "Skipped"):
        for key in DEFINITION["$defs"][kind]["properties"]:
            assert f"`{key}`" in page, key
