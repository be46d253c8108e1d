"""A film of two squares on the page: what is written is what was judged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from films import Brightness, Squares, draw, encode
from mfclip.card import read_card
from mfclip.errors import InputError
from mfclip.media.transforms import Pixels
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video, look_closer
from mfclip.predict.video_prediction import VideoPrediction, timecode
from mfclip.report.report import Report


@pytest.fixture
def judge() -> Predictor:
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    return Predictor(Brightness(), card, device="cpu", finder=Squares())


@pytest.fixture
def video(judge: Predictor, tmp_path: Path) -> VideoPrediction:
    bright = (150, 250, 200, 240)
    shown = [draw((10, 10, 44, 60), (150, 10, 44, grey)) for grey in bright]
    return judge_video(judge, encode(tmp_path / "a <b>.mkv", shown, lossless=True))


def page(judge: Predictor, video: VideoPrediction) -> str:
    report = Report(judge.describe())
    report.add_video(video, look_closer(judge, video, video.moments))
    return report.render()


def test_scores_of_both_faces_and_every_moment_are_written(
    judge: Predictor, video: VideoPrediction
) -> None:
    text = page(judge, video)
    assert f"score {video.score:.3f}" in text
    assert f"standard deviation {video.spread:.3f}" in text
    rows = re.findall(r'<th scope="row">(\d), ?(decides)?.*?number">([\d.]+)', text)
    assert rows == [("2", "decides", f"{video.score:.3f}")]
    assert f'<td class="number">{video.tracks[0].score:.3f}</td>' in text
    captions = [
        f"{place}: at {timecode(m.seconds)}, frame {m.index}, score {m.score:.3f}"
        for place, m in enumerate(video.moments, 1)
    ]
    places = [text.index(f"<figcaption>{caption}") for caption in captions]
    assert places == sorted(places)
    assert [m.index for m in video.moments] == [1, 3, 2, 0]
    assert text.count("data:image/jpeg") == 2 * len(captions)


def test_names_cannot_break_the_page(judge: Predictor, video: VideoPrediction) -> None:
    text = page(judge, video)
    assert "<h3>a &lt;b&gt;.mkv</h3>" in text
    assert "a <b>" not in text
    assert video.sha256 in text


def test_a_film_that_went_away_still_gets_its_page(
    judge: Predictor, video: VideoPrediction
) -> None:
    Path(video.path).unlink()
    text = page(judge, video)
    assert "no such file" in text
    assert f"score {video.score:.3f}" in text


def test_a_film_that_was_exchanged_is_not_shown(judge: Predictor, video: VideoPrediction) -> None:
    encode(Path(video.path), [draw((80, 30, 20, 90))] * 4, lossless=True)
    assert "the video changed since it was judged" in page(judge, video)

    def closer() -> Iterator[object]:
        yield from look_closer(judge, video, video.moments)

    with pytest.raises(InputError, match="changed since"):
        list(closer())


def test_a_page_without_pictures_has_no_such_heading(
    judge: Predictor, video: VideoPrediction
) -> None:
    text = page(judge, video)
    assert "<h2>Videos</h2>" in text
    assert "<h2>Pictures</h2>" not in text
    assert "1 video judged: 1 called fake, 0 uncertain, 0 called real." in text
    assert "faces judged" not in text


def test_the_heat_map_is_laid_over_the_first_moment_only(
    judge: Predictor, video: VideoPrediction
) -> None:
    asked: list[float] = []

    def show_heat(pixels: Pixels) -> Pixels:
        asked.append(float(pixels.mean()))
        return pixels

    report = Report(judge.describe(), show_heat=show_heat)
    report.add_video(video, look_closer(judge, video, video.moments))
    assert asked == pytest.approx([250], abs=1)
    assert report.render().count("data:image/jpeg") == page(judge, video).count("jpeg") + 1
