"""Points of the plot and heights of the line of text, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mfclip.card import Bands
from mfclip.predict.video_prediction import FrameScore, Track, VideoPrediction
from mfclip.report.timeline import Timeline, plot_scores, sparkline
from mfclip.report.wording import Words


def face(number: int, scores: dict[int, float]) -> Track:
    return Track(number, tuple(FrameScore(i, float(i), s, None) for i, s in scores.items()), {})


def film(*tracks: Track, bands: Bands = Bands(0.3, 0.6)) -> VideoPrediction:  # noqa: B008
    return VideoPrediction(
        path="a.mp4", tracks=tracks, suspect=tracks[0], moments=tracks[0].frames[:2], bands=bands,
        seconds=8.0, fps=1.0, width=64, height=64, codec="h264", num_frames=8,
        judged=tuple(range(8)), num_with_face=8, sha256="ab",
    )  # fmt: skip


SCORES = {0: 0.0, 1: 0.5, 2: 1.0, 5: 0.25, 6: 0.7}


def plot(video: VideoPrediction) -> Timeline:
    return plot_scores(video, Words())


def test_points_stand_where_time_and_score_say() -> None:
    (line,) = plot(film(face(1, SCORES))).lines
    places = [(point.x, point.y) for point in line.points]
    expected = [(100 * second / 8, 100 * (1 - score)) for second, score in SCORES.items()]
    assert np.abs(np.subtract(places, expected)).max() < 0.01
    assert line.points[1].told == "0:01.0, score 0.500"


def test_the_line_is_broken_where_the_face_was_out_of_sight() -> None:
    (line,) = plot(film(face(1, SCORES))).lines
    joined = [point.joined for point in line.points]
    assert joined == [False, True, True, False, True]  # seconds 0 1 2, then 5 6


def test_the_suspect_face_lies_on_top_and_the_moments_on_its_line() -> None:
    suspect, other = face(1, SCORES), face(2, {0: 0.1, 1: 0.2})
    shown = plot(film(suspect, other))
    assert [(line.number, line.is_suspect) for line in shown.lines] == [(2, False), (1, True)]
    assert shown.moments == ((0.0, 100.0), (12.5, 50.0))
    assert [text for _, text in shown.ticks] == ["0:00.0", "0:02.0", "0:04.0", "0:06.0", "0:08.0"]
    assert "mean 0.490, standard deviation 0.347, 5 frames of face 1" in shown.label


def test_ten_thousand_frames_stay_a_small_picture() -> None:
    many = face(1, {i: i % 10 / 10 for i in range(10_000)})
    video = replace(film(many), judged=tuple(range(10_000)), num_frames=10_000, seconds=10_000.0)
    (line,) = plot(video).lines
    assert 1000 < len(line.points) <= 2500
    assert all(point.joined for point in line.points[1:])
    assert len(plot(video).looked) <= 2500


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
