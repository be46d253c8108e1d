"""The document says what the page says; its text is read back out of the file."""

from __future__ import annotations

import re
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from films import Brightness, Squares, draw, encode
from mfclip.card import read_card
from mfclip.errors import MissingExtraError
from mfclip.predict.prediction import Failure, Kind, Prediction, Result
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video, look_closer
from mfclip.report import pdf, pdf_pages
from mfclip.report.pdf import PdfReport

CARD = {
    "trained_on": "faces (of) 2024",
    "limits": "errs on small faces",
    "weights": "embedded",
    "weights_sha256": "c0ffee",
    "resize": 240,
    "verdict": {
        "real_below": 0.3,
        "fake_from": 0.7,
        "max_error": 0.1,
        "rates": {"val": {}, "test": {"false_alarm": {"value": 0.14, "low": 0.1, "high": 0.2}}},
    },
}
MODEL = {**read_card(CARD).to_json(), "verdict": read_card(CARD).bands("whole").to_json()}


@pytest.fixture
def core_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only the extra `report` is installed: no matplotlib, so no font of many letters."""
    monkeypatch.setattr(pdf_pages, "find_spec", lambda _: None)


@pytest.fixture
def results(predictor: Predictor, pictures: list[np.ndarray], tmp_path: Path) -> list[Result]:
    path = tmp_path / "Zoë И 山.png"
    Image.fromarray(pictures[0]).save(path)
    found = predictor.iter_predict([path, Failure("bad.jpg", "empty")], keep_pixels=True)
    return list(found)


def text_of(data: bytes) -> str:
    """Return the words of a document in a core font."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    words = []
    for stream in streams:
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        words += re.findall(rb"\(((?:\\.|[^\\()])*)\) Tj", content)
    plain = b" ".join(words).decode("latin-1")
    return re.sub(r"\s+", " ", re.sub(r"\\(.)", r"\1", plain))


def write(results: list[Result], **options: object) -> bytes:
    report = PdfReport(MODEL, **options)  # type: ignore[arg-type]
    for result in results:
        report.add(result)
    return report.render()


@pytest.mark.usefixtures("core_font")
def test_document_says_all_that_a_reader_needs(results: list[Result]) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    kinds = {"family": (Kind("gan", 0.7, 0.91), Kind("real", 0.3, 0.2))}
    fake = replace(
        first,
        score=0.9,
        bands=read_card(CARD).bands("whole"),
        kinds=kinds,
        warnings=("blurred face",),
    )
    data = write([fake, results[1]])
    assert data.startswith(b"%PDF-")
    text = text_of(data)
    for words in (
        "1 face judged: 1 called fake, 0 uncertain, 0 called real. 1 file could not be judged.",
        "Evidence, not proof.",
        "called fake, score 0.900",
        "in tests, 14% [10, 20] (test) of the real faces were called fake, too",
        "blurred face",
        "GAN 70% (cosine 0.91), real 30% (cosine 0.20)",
        str(first.sha256),
        "bad.jpg",
        "faces (of) 2024",
        "errs on small faces",
        "Heat map",
        "c0ffee",
        "UTC",
    ):
        assert words in text, words


@pytest.mark.usefixtures("core_font")
def test_letters_that_the_font_lacks_are_spelled_and_break_nothing(results: list[Result]) -> None:
    text = text_of(write(results))
    assert "Zoë" in text
    assert "<U+0418>" in text
    assert "<U+5C71>" in text


def test_a_font_of_many_alphabets_is_taken_where_there_is_one(results: list[Result]) -> None:
    data = write(results)
    assert b"DejaVu" in data
    assert b"/Helvetica" not in data


def test_each_picture_is_in_the_document_once(results: list[Result]) -> None:
    plain = write(results)
    assert plain.count(b"/Subtype /Image") == 4  # picture, model input, patch, noise
    heat = write(results, show_heat=lambda pixels: np.full_like(pixels, 200))
    assert heat.count(b"/Subtype /Image") == 5


def test_many_faces_fill_many_pages_and_are_counted(
    results: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "MAX_ENTRIES", 5)
    first = results[0]
    assert isinstance(first, Prediction)
    report = PdfReport(MODEL)
    for _ in range(7):
        report.add(replace(first, pixels=None))
    assert report.tally.summary(5, 0).endswith("This report shows the first 5 faces.")
    assert report.render().count(b"/Type /Page\n") >= 3


@pytest.mark.usefixtures("core_font")
def test_a_video_is_shown_with_its_moments(tmp_path: Path) -> None:
    frames = [draw((10, 20, 40, grey)) for grey in (40, 250, 90, 240)]
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    judge = Predictor(Brightness(), card, device="cpu", finder=Squares())
    video = judge_video(judge, encode(tmp_path / "film.mkv", frames, lossless=True))
    report = PdfReport(judge.describe())
    report.add_video(video, look_closer(judge, video, video.moments))
    data = report.render()
    text = text_of(data)
    assert "Score over time, from 0.0 to 0.1 seconds" in text
    for words in ("1 video judged", "film.mkv", f"score {video.score:.3f}", video.sha256, "ffv1"):
        assert words in text, words
    assert data.count(b"/Subtype /Image") == len(video.moments)


def test_document_is_written_whole(results: list[Result], tmp_path: Path) -> None:
    report = PdfReport(MODEL)
    report.add(results[0])
    report.write(tmp_path / "out" / "r.pdf")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["r.pdf"]
    assert (tmp_path / "out" / "r.pdf").read_bytes().rstrip().endswith(b"%%EOF")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mfclip\[report\]'"):
        PdfReport(MODEL)
