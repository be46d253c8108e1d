"""Copies read back: as many frames at the same times, and coloured boxes where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from films import Brightness, Squares, draw, encode
from mfclip.card import read_card
from mfclip.media.video import frames, probe
from mfclip.predict.prediction import Box
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.report.annotate import COLOURS, Mark, Marker, annotate, draw_marks


@pytest.fixture
def judge() -> Predictor:
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    return Predictor(Brightness(), card, device="cpu", finder=Squares())


def wander(judge: Predictor, path: Path, **options: int) -> VideoPrediction:
    """Thirteen frames: a dim square goes right, and a bright one comes only in the second half."""
    shown = [
        draw((10 + 6 * i, 20, 40, 60), *([(200, 30, 30, 220)] * (i > 5)), size=(128, 256))
        for i in range(13)
    ]
    return judge_video(judge, encode(path, shown, lossless=True), **options)


def test_boxes_are_found_on_judged_frames_and_lie_between_on_others(
    judge: Predictor, tmp_path: Path
) -> None:
    video = wander(judge, tmp_path / "film.mkv", every=4)  # 0, 4, 8, 12
    marker = Marker(video)
    for index in range(13):
        first = marker.marks(index)[0]
        assert first.was_judged == (index % 4 == 0)
        assert first.box is not None
        assert first.box.left == 10 + 6 * index
        assert first.score == pytest.approx(60 / 255, abs=0.01)
    # seen at 8 but not at 4: it stands from half-way on
    assert [len(marker.marks(index)) for index in range(13)] == [1] * 7 + [2] * 6


def test_the_score_is_that_of_the_nearest_judged_frame(judge: Predictor, tmp_path: Path) -> None:
    greys = (40, 40, 40, 240, 240)
    film = encode(tmp_path / "a.mkv", [draw((10, 20, 40, g)) for g in greys], lossless=True)
    marker = Marker(judge_video(judge, film, every=4))
    shown = [round(255 * marker.marks(index)[0].score) for index in range(5)]
    assert shown == pytest.approx([40, 40, 40, 240, 240], abs=1)


def test_frames_before_the_first_judged_one_show_its_box(judge: Predictor, tmp_path: Path) -> None:
    film = encode(tmp_path / "a.mkv", [draw((10, 20, 40, 90))] * 9, lossless=True)
    marker = Marker(judge_video(judge, film, count=1))
    assert {mark.box for index in range(9) for mark in marker.marks(index)} == {Box(10, 20, 50, 60)}


@pytest.mark.parametrize("times", [None, [0, 40, 80, 500, 520, 2000, 2040, 3000]])
def test_a_copy_has_the_frames_and_times_of_the_film(
    judge: Predictor, tmp_path: Path, times: list[int] | None
) -> None:
    shown = [draw((10 + i, 20, 41, 90), size=(95, 255)) for i in range(8)]
    path = encode(tmp_path / "odd.mkv", shown, times=times, lossless=True)
    steps: list[tuple[str, int, int]] = []
    target = tmp_path / "copies" / "copy.mp4"
    annotate(judge_video(judge, path), target, progress=lambda *step: steps.append(step))
    before, after = probe(path), probe(target)
    assert (after.num_frames, after.codec) == (8, "h264")
    assert after.seconds == pytest.approx(before.seconds, abs=1 / before.fps)
    both = zip(frames(path, every=1), frames(target, every=1), strict=True)
    assert all(old.seconds == pytest.approx(new.seconds, abs=2e-3) for old, new in both)
    assert steps[-1] == ("writing copy.mp4", 8, 8)


def test_a_copy_shows_the_box_in_the_colour_of_the_verdict(
    judge: Predictor, tmp_path: Path
) -> None:
    video = wander(judge, tmp_path / "film.mkv")
    annotate(video, tmp_path / "copy.mp4")
    last = list(frames(tmp_path / "copy.mp4", every=1))[-1].image.astype(int)
    for x, y, verdict in ((102, 21, "real"), (215, 59, "fake")):
        near = np.abs(last[y - 1 : y + 2, x - 1 : x + 2] - COLOURS[verdict]).sum(-1)  # type: ignore[index]
        assert near.min() < 90  # H.264 blurs thin lines of colour


def test_a_turned_film_is_copied_upright(judge: Predictor, tmp_path: Path) -> None:
    stored = np.ascontiguousarray(np.rot90(draw((30, 10, 40, 200)), -1))
    film = encode(tmp_path / "turned.mp4", [stored] * 3, rotation=90)
    annotate(judge_video(judge, film), tmp_path / "copy.mp4")
    info = probe(tmp_path / "copy.mp4")
    assert (info.width, info.height, info.rotation) == (256, 96, 0)


def test_drawing_leaves_the_frame_given_as_it_was(judge: Predictor, tmp_path: Path) -> None:
    video = wander(judge, tmp_path / "film.mkv", count=2)
    image = draw((10, 20, 40, 60))
    drawn = draw_marks(image, [Mark(1, None, 0.9, True)], video)
    assert (image == draw((10, 20, 40, 60))).all()
    assert tuple(drawn[-1, 100]) == COLOURS["fake"]  # a whole frame is framed
    assert draw_marks(image, [], video) is image
