"""Lines read back from the drawing, and heights counted by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from xml.etree.ElementTree import Element

import pytest

from mfclip.card import Bands
from mfclip.predict.video_prediction import FrameScore, Track, VideoPrediction
from mfclip.report.timeline import BOTTOM, LEFT, RIGHT, TOP, draw_timeline, sparkline


def face(number: int, scores: dict[int, float]) -> Track:
    return Track(number, tuple(FrameScore(i, float(i), s, None) for i, s in scores.items()), {})


def film(*tracks: Track, bands: Bands = Bands(0.3, 0.6)) -> VideoPrediction:  # noqa: B008
    return VideoPrediction(
        path="a.mp4", tracks=tracks, suspect=tracks[0], moments=tracks[0].frames[:2], bands=bands,
        seconds=8.0, fps=1.0, width=64, height=64, codec="h264", num_frames=8,
        judged=tuple(range(8)), num_with_face=8, sha256="ab",
    )  # fmt: skip


SCORES = {0: 0.0, 1: 0.5, 2: 1.0, 5: 0.25, 6: 0.7}


def parse(video: VideoPrediction) -> Element:
    return ET.fromstring(draw_timeline(video))


def test_dots_stand_where_time_and_score_say() -> None:
    dots = [
        (float(dot.get("cx", "")), float(dot.get("cy", "")))
        for dot in parse(film(face(1, SCORES))).iter("circle")
    ]
    expected = [
        (LEFT + (RIGHT - LEFT) * second / 8, BOTTOM - (BOTTOM - TOP) * score)
        for second, score in SCORES.items()
    ]
    assert len(dots) == len(expected)
    for dot, place in zip(dots, expected, strict=True):
        assert dot == pytest.approx(place, abs=0.06)


def test_the_line_is_broken_where_the_face_was_out_of_sight() -> None:
    paths = [path.get("d", "") for path in parse(film(face(1, SCORES))).iter("path")]
    (line,) = [path for path in paths if "L" in path]
    assert re.sub(r"[^ML]", "", line) == "MLLML"  # seconds 0 1 2, then 5 6


def test_the_uncertain_band_is_shaded_between_its_scores() -> None:
    (shade,) = parse(film(face(1, SCORES))).iter("rect")
    top, height = float(shade.get("y", "")), float(shade.get("height", ""))
    room = BOTTOM - TOP
    assert top == pytest.approx(BOTTOM - 0.6 * room, abs=0.06)
    assert height == pytest.approx(0.3 * room, abs=0.06)
    assert not list(parse(film(face(1, SCORES), bands=Bands(0.5, 0.5))).iter("rect"))
    texts = [text.text for text in parse(film(face(1, SCORES))).iter("text")]
    assert {"fake", "uncertain", "real", "1", "2"} <= set(texts)


def test_other_faces_are_dashed_so_that_colour_is_not_needed() -> None:
    drawing = parse(film(face(1, SCORES), face(2, {0: 0.1, 1: 0.2})))
    dashed = [
        p for p in drawing.iter("path") if p.get("stroke-dasharray") and "L" in p.get("d", "")
    ]
    assert len(dashed) == 1


def test_ten_thousand_frames_stay_a_small_picture() -> None:
    many = face(1, {i: i % 10 / 10 for i in range(10_000)})
    video = replace(film(many), judged=tuple(range(10_000)), num_frames=10_000, seconds=10_000.0)
    assert len(draw_timeline(video)) < 500_000
    assert len(list(parse(video).iter("circle"))) <= 2500


def test_characters_rise_with_the_score_and_tell_the_verdict() -> None:
    line = sparkline(film(face(1, SCORES)), width=8)
    assert "".join(height for height, _ in line) == "▁▅█  ▃▆ "
    verdicts = [verdict for _, verdict in line]
    assert verdicts == ["real", "uncertain", "fake", None, None, "real", "fake", None]
    plain = sparkline(film(face(1, SCORES)), width=8, ascii_only=True)
    assert "".join(height for height, _ in plain).isascii()


def test_a_narrow_line_shows_means() -> None:
    ((first, _), (second, _)) = sparkline(film(face(1, {0: 0.0, 1: 1.0, 4: 0.9, 7: 0.9})), width=2)
    assert (first, second) == ("▅", "█")
