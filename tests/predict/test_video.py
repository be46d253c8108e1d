"""Films of grey squares, whose brightness is their score; and a photograph shown for a second."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from films import Brightness, Squares, draw, encode
from mfclip.card import Card, read_card
from mfclip.errors import InputError
from mfclip.model.mfclip import MFCLIP
from mfclip.predict.faces import Crop, DetectedFaces
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video, look_closer
from mfclip.predict.video_prediction import VideoPrediction

GREYS = (40, 200, 120, 80, 60, 150, 100, 140)


@pytest.fixture
def judge() -> Predictor:
    card = read_card({"resize": 16, "verdict": {"real_below": 0.3, "fake_from": 0.6}})
    return Predictor(Brightness(), card, device="cpu", finder=Squares())


def notes(video: VideoPrediction) -> tuple[str, ...]:
    """Return the warnings without those that flat, made-up faces get for their quality."""
    quality = ("blurred face", "very dark face", "very bright face")
    return tuple(note for note in video.warnings if not any(word in note for word in quality))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """One square that wanders to the right, a new grey every frame."""
    frames = [draw((10 + 4 * i, 20, 40, grey)) for i, grey in enumerate(GREYS)]
    return encode(tmp_path / "film.mkv", frames, lossless=True)


def test_score_and_spread_are_mean_and_deviation_over_the_frames(
    judge: Predictor, film: Path
) -> None:
    video = judge_video(judge, film)
    expected = np.array(GREYS) / 255
    (track,) = video.tracks
    assert [f.score for f in track.frames] == pytest.approx(list(expected), abs=1e-3)
    assert video.score == pytest.approx(expected.mean(), abs=1e-3)
    assert video.spread == pytest.approx(expected.std(), abs=1e-3)
    assert video.verdict == "uncertain"
    assert [f.index for f in track.frames] == list(range(8))
    assert [f.seconds for f in track.frames] == pytest.approx([0.04 * i for i in range(8)])
    lefts = [f.box.left for f in track.frames if f.box]
    assert lefts == [10 + 4 * i for i in range(8)]
    assert (video.width, video.height, video.codec, video.num_frames) == (256, 96, "ffv1", 8)
    assert video.sha256 == hashlib.sha256(film.read_bytes()).hexdigest()
    assert notes(video) == ()


def test_moments_are_the_highest_scores_first(judge: Predictor, film: Path) -> None:
    moments = judge_video(judge, film).moments
    assert [moment.index for moment in moments] == [1, 5, 7, 2, 6]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_change_nothing(judge: Predictor, film: Path, batch_size: int) -> None:
    assert judge_video(judge, film, batch_size=batch_size) == judge_video(judge, film)


def test_chosen_frames_are_looked_at_and_counted(judge: Predictor, film: Path) -> None:
    told: list[tuple[str, int, int]] = []
    video = judge_video(judge, film, count=4, progress=lambda *step: told.append(step))
    assert video.judged == (1, 3, 5, 7)
    assert told == [(str(film), done, 4) for done in (1, 2, 3, 4)]
    assert judge_video(judge, film, every=3).judged == (0, 3, 6)
    for wrong in ({"count": 0}, {"every": 0}):
        with pytest.raises(InputError, match="at least 1"):
            judge_video(judge, film, **wrong)


def test_faces_keep_their_numbers_when_their_order_swaps(judge: Predictor, tmp_path: Path) -> None:
    # the finder names the larger first, and now the left one is larger, now the right one
    frames = [draw((10, 10, 40 + 8 * (i % 2), 60), (150, 10, 44, 230)) for i in range(8)]
    video = judge_video(judge, encode(tmp_path / "two.mkv", frames, lossless=True))
    assert [len(track.frames) for track in video.tracks] == [8, 8]
    means = sorted(track.score for track in video.tracks)
    assert means == pytest.approx([60 / 255, 230 / 255], abs=1e-3)
    assert all(track.spread < 1e-3 for track in video.tracks)
    assert video.score == means[1]
    assert video.verdict == "fake"


def test_a_face_seen_for_a_moment_is_named_but_does_not_decide(
    judge: Predictor, tmp_path: Path
) -> None:
    frames = [draw((10, 10, 44, 60), *([(150, 10, 44, 230)] * (i in (4, 5)))) for i in range(16)]
    video = judge_video(judge, encode(tmp_path / "short.mkv", frames, lossless=True))
    assert (len(video.tracks), video.suspect.number, video.verdict) == (2, 1, "real")
    assert any("face 2, seen in 2 of 16 frames only" in note for note in video.warnings)


def test_a_film_of_one_photograph_has_the_photograph_s_score(model: MFCLIP, tmp_path: Path) -> None:
    path = str(files("mfclip").joinpath("assets/demo/photo/collins.jpg"))
    photo = np.asarray(Image.open(path).convert("RGB"))
    photo = np.ascontiguousarray(photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2])
    film = encode(tmp_path / "still.mkv", [photo] * 2, lossless=True)
    predictor = Predictor(model, Card(temperature=2.0), device="cpu", finder=DetectedFaces())
    (alone,) = predictor.predict([photo])
    assert isinstance(alone, Prediction)
    video = judge_video(predictor, film)
    for frame in video.suspect.frames:
        assert frame.score == pytest.approx(alone.score, abs=1e-5)
        assert frame.box == alone.face
    names = [kind.name for kind in alone.kinds["generator"]]
    shares = [kind.probability for kind in video.kinds["generator"]]
    assert shares == pytest.approx([k.probability for k in alone.kinds["generator"]], abs=1e-5)
    assert [kind.name for kind in video.kinds["generator"]] == names
    ((frame, closer),) = look_closer(predictor, video, video.moments[:1])
    np.testing.assert_array_equal(frame.image, photo)
    assert closer.score == pytest.approx(alone.score, abs=1e-5)
    assert (closer.face, closer.patch, closer.path) == (alone.face, alone.patch, str(film))
    assert closer.pixels is not None


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_undone_before_faces_are_sought(
    judge: Predictor, tmp_path: Path, rotation: int
) -> None:
    upright = draw((30, 10, 40, 200))
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
    film = encode(tmp_path / "turned.mp4", [stored] * 3, rotation=rotation)
    video = judge_video(judge, film)
    assert (video.width, video.height) == (256, 96)
    assert video.score == pytest.approx(200 / 255, abs=0.02)
    box = video.moments[0].box
    assert box is not None
    assert (box.left, box.top) == pytest.approx((30, 10), abs=2)


def test_variable_frame_rate_keeps_the_true_times(judge: Predictor, tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 520, 2000, 2040, 5000]
    frames = [draw((10, 20, 40, grey)) for grey in GREYS]
    video = judge_video(judge, encode(tmp_path / "variable.mp4", frames, times=times))
    seconds = [frame.seconds for frame in video.suspect.frames]
    assert seconds == pytest.approx([time / 1000 for time in times], abs=2e-3)


def test_whole_frames_are_judged_where_the_finder_takes_the_whole(tmp_path: Path) -> None:
    judge = Predictor(Brightness(), Card(resize=16, threshold=0.7), device="cpu")
    frames = [np.full((96, 160, 3), grey, np.uint8) for grey in GREYS]
    video = judge_video(judge, encode(tmp_path / "whole.mkv", frames, lossless=True))
    assert video.score == pytest.approx(np.mean(GREYS) / 255, abs=1e-3)
    assert video.suspect.frames[0].box is None
    (note,) = notes(video)
    assert note.startswith("in 8 of 8 frames of this face: long image (160 x 96 pixels)")


def test_warnings_of_frames_are_said_once(judge: Predictor, film: Path) -> None:
    class Worried(Squares):
        def find(self, picture: np.ndarray) -> list[Crop]:
            (crop,) = super().find(picture)
            side = crop.pixels.shape[0]
            warnings = (f"small face ({side} pixels)",) if crop.pixels.mean() > 110 else ()
            return [Crop(crop.pixels, crop.box, warnings)]

    worried = judge.using(finder=Worried())
    assert notes(judge_video(worried, film)) == (
        "in 4 of 8 frames of this face: small face (36 pixels)",
    )


def test_no_face_offers_the_way_out(judge: Predictor, tmp_path: Path) -> None:
    film = encode(tmp_path / "dark.mp4", [draw()] * 4)
    message = r"dark.mp4: no face found in any of the 4 frames.*--whole"
    with pytest.raises(InputError, match=message):
        judge_video(judge, film)


def test_a_part_that_is_forged_is_named(judge: Predictor, tmp_path: Path) -> None:
    greys = [40] * 4 + [200] * 3 + [40] * 5
    frames = [draw((10, 20, 40, grey)) for grey in greys]
    video = judge_video(judge, encode(tmp_path / "part.mkv", frames, lossless=True))
    assert video.verdict == "uncertain"
    (note,) = notes(video)
    assert note.startswith("3 of 12 frames of this face, from 00:00.160 to 00:00.240, would be")


def test_few_frames_with_a_face_are_a_warning(judge: Predictor, tmp_path: Path) -> None:
    frames = [draw(*([(10, 20, 40, 90)] * (i > 8))) for i in range(12)]
    video = judge_video(judge, encode(tmp_path / "late.mkv", frames, lossless=True))
    assert video.num_with_face == 3
    assert "a face was found in only 3 of 12 frames" in video.warnings


def test_a_film_cut_short_is_judged_as_far_as_it_goes(judge: Predictor, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 256, (40, 96, 256, 3), np.uint8)
    film = encode(tmp_path / "cut.mp4", noise, options={"movflags": "frag_keyframe+empty_moov"})
    whole = tmp_path / "whole.mp4"
    encode(whole, noise, options={"movflags": "faststart"})
    for path in (film, whole):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    video = judge_video(judge, whole)
    assert any("its end is missing" in note for note in video.warnings)
    assert video.num_frames < 40


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"no film at all" * 50, "not a video")]
)
def test_what_is_no_film_says_so(
    judge: Predictor, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "wrong.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        judge_video(judge, path)


def test_weights_that_give_no_number_end_the_video_and_the_thread(
    judge: Predictor, film: Path
) -> None:
    broken = Brightness()
    broken.gain.data.fill_(float("nan"))
    blind = Predictor(broken, judge.card, device="cpu", finder=judge.finder)
    with pytest.raises(InputError, match="no finite score"):
        judge_video(blind, film)
