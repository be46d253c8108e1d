"""A film of two squares in the report: what is written is what was judged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from films import Brightness, Squares, draw, encode
from mfclip.card import Bands, read_card
from mfclip.errors import InputError
from mfclip.media.transforms import Pixels
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video, look_closer
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.report.document import Article, Scale, find_limits, find_origin, find_verdict
from mfclip.report.report import Report
from mfclip.report.wording import Words

BARE = {"verdict": Bands(0.5, 0.5, "threshold").to_json()}
"""A model of which nothing is known."""


@pytest.fixture
def judge() -> Predictor:
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    return Predictor(Brightness(), card, device="cpu", finder=Squares())


@pytest.fixture
def video(judge: Predictor, tmp_path: Path) -> VideoPrediction:
    bright = (150, 250, 200, 240)
    shown = [draw((10, 10, 44, 60), (150, 10, 44, grey)) for grey in bright]
    return judge_video(judge, encode(tmp_path / "a <b>.mkv", shown, lossless=True))


def report(judge: Predictor, video: VideoPrediction) -> Report:
    made = Report(judge.describe())
    made.add_video(video, look_closer(judge, video, video.moments))
    return made


def article(judge: Predictor, video: VideoPrediction) -> Article:
    (one,) = report(judge, video).document().articles
    return one


def test_no_rate_stands_beside_a_score_that_decides_nothing() -> None:
    rates = {"test": {"uncertain_real": {"value": 0.2}, "uncertain_fake": {"value": 0.3}}}
    bands = Bands(0.3, 0.7, "validation", 0.1, rates)
    reason = "blurred face: it says little"
    poor = Prediction(
        None, 0.99, bands, {}, None, 224, None, 30, 20, warnings=(reason,), unreliable=(reason,)
    )
    found = find_verdict(poor, Words())
    assert (found.verdict, found.word, found.scale.place) == ("uncertain", "Uncertain", 99)
    assert "decides nothing" in " ".join(found.meaning)
    assert "%" not in " ".join(found.meaning)
    assert found.warnings == ("Blurred face: it says little.",)
    usual = find_verdict(Prediction(None, 0.5, bands, {}, None, 224, None, 30, 20), Words())
    assert "20%" in usual.meaning[0]


def test_scores_of_both_faces_and_every_moment_are_there(
    judge: Predictor, video: VideoPrediction
) -> None:
    shown = article(judge, video)
    (face,) = shown.faces
    assert (face.finding.score, face.finding.verdict) == (f"{video.score:.3f}", video.verdict)
    assert shown.film is not None
    assert f"spread by {video.spread:.3f}" in shown.film.sentences[0]
    rows = {(row.number, row.decides, row.score) for row in shown.film.faces}
    assert rows == {
        (track.number, track is video.suspect, f"{track.score:.3f} ± {track.spread:.3f}")
        for track in video.tracks
    }
    assert [moment.index for moment in shown.film.moments] == [1, 3, 2, 0]
    told = [moment.frame.title for moment in shown.film.moments]
    tenths = (0, 1, 1, 0)  # 0.04, 0.12, 0.08 and 0 seconds
    assert told == [
        f"{place}: at 0:00.{tenth}, score {m.score:.3f}"
        for place, (tenth, m) in enumerate(zip(tenths, video.moments, strict=True), 1)
    ]
    assert dict(shown.rows)["SHA-256"] == video.sha256


def test_names_cannot_break_the_page(judge: Predictor, video: VideoPrediction) -> None:
    text = report(judge, video).render()
    assert "<h3>a &lt;b&gt;.mkv</h3>" in text
    assert "a <b>" not in text


def test_the_plot_is_drawn_as_it_was_laid_out(judge: Predictor, video: VideoPrediction) -> None:
    shown = article(judge, video)
    assert shown.film is not None
    text = report(judge, video).render()
    dots = re.findall(r'<circle class="dot track-\d" cx="([\d.]+)%" cy="([\d.]+)%"', text)
    points = [(p.x, p.y) for line in shown.film.timeline.lines for p in line.points]
    assert [(float(x), float(y)) for x, y in dots] == points


def test_a_film_that_went_away_still_gets_its_page(
    judge: Predictor, video: VideoPrediction
) -> None:
    Path(video.path).unlink()
    shown = article(judge, video)
    assert shown.picture is None
    assert "No such file; check the path." in shown.faces[0].finding.warnings
    assert shown.faces[0].finding.score == f"{video.score:.3f}"
    assert "<article" in report(judge, video).render()


def test_a_film_that_was_exchanged_is_not_shown(judge: Predictor, video: VideoPrediction) -> None:
    encode(Path(video.path), [draw((80, 30, 20, 90))] * 4, lossless=True)
    warnings = article(judge, video).faces[0].finding.warnings
    assert "The video changed since it was judged." in warnings

    def closer() -> Iterator[object]:
        yield from look_closer(judge, video, video.moments)

    with pytest.raises(InputError, match="changed since"):
        list(closer())


def test_the_heat_map_is_laid_over_the_first_moment_only(
    judge: Predictor, video: VideoPrediction
) -> None:
    asked: list[float] = []

    def show_heat(pixels: Pixels) -> Pixels:
        asked.append(float(pixels.mean()))
        return pixels

    made = Report(judge.describe(), show_heat=show_heat)
    made.add_video(video, look_closer(judge, video, video.moments))
    assert asked == pytest.approx([250], abs=1)
    assert made.render().count("data:image/jpeg") == report(judge, video).render().count("jpeg") + 1


def test_ends_of_the_scale_that_lie_close_are_not_written_over_each_other() -> None:
    def scale(bands: Bands) -> Scale:
        judged = Prediction(None, 0.5, bands, {}, None, 224, None, 30, 20)
        return find_verdict(judged, Words()).scale

    assert [place for place, _ in scale(Bands(0.02, 0.99)).ticks] == [0, 100]
    bands = scale(Bands(0.3, 1.000001)).bands
    assert [(band.verdict, band.start, band.width) for band in bands] == [
        ("real", 0, 30),
        ("uncertain", 30, 70),
    ]


def test_what_the_card_does_not_say_is_not_made_up() -> None:
    limits = find_limits(BARE, Words())
    assert (limits.head, limits.table) == ((), ())
    assert limits.rows == (("Trained on", "The weights do not say what they were trained on."),)


def test_origin_names_engine_and_how_faces_were_saved(judge: Predictor) -> None:
    made = Report({**BARE, "engine": "onnx", "precision": "fp32", "jpeg_quality": 90})
    rows = dict(find_origin(made.model, made.since, Words()))
    assert rows["Engine"] == "onnx, fp32"
    assert "JPEG of quality 90" in rows["Faces saved"]
    assert rows["Judged"].startswith(f"{made.since:%Y-%m-%d %H:%M:%S} to 20")
