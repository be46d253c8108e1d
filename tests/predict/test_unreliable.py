"""Where an image is worse than what bands were measured on, or not what it seems: uncertain."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from films import Brightness as SmallBrightness
from films import Squares, draw, encode
from hostile import corrupt_jpeg
from mfclip.card import Card
from mfclip.media.images import read_image
from mfclip.predict.faces import NO_FACE, DetectedFaces, WholePicture
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.schema import to_json
from mfclip.predict.video import judge_video


class Brightness(SmallBrightness):
    """Sees enough of a face for blur to show."""

    image_size = 64


PORTRAIT = Path(str(files("mfclip").joinpath("assets/demo/photo/collins.jpg")))

MEASURED = Card.model_validate({
    "resize": 64,
    "verdict": {
        step: {"real_below": 0.2, "fake_from": 0.3, "basis": "validation", "max_error": 0.1}
        for step in ("whole", "detected")
    },
})  # fmt: skip


@pytest.fixture(scope="module")
def judge() -> Predictor:
    """Calls every portrait fake: the score is the brightness."""
    return Predictor(Brightness(), MEASURED, device="cpu", finder=DetectedFaces())


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return read_image(PORTRAIT)


def only(judge: Predictor, picture: np.ndarray | Path) -> Prediction:
    (result,) = judge.predict(picture)
    assert isinstance(result, Prediction)
    return result


def shrink(picture: np.ndarray, share: float) -> np.ndarray:
    height, width = (round(share * side) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def blur(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(shrink(picture, 0.08)).resize((width, height)))


def darken(picture: np.ndarray) -> np.ndarray:
    return (picture // 4).astype(np.uint8)


def brighten(picture: np.ndarray) -> np.ndarray:
    return 255 - (255 - picture) // 4


def test_a_good_face_gets_its_verdict(judge: Predictor, portrait: np.ndarray) -> None:
    result = only(judge, portrait)
    assert (result.verdict, result.unreliable) == ("fake", ())


@pytest.mark.parametrize(
    ("damage", "words"),
    [(blur, "blurred face"), (darken, "very dark face"), (brighten, "very bright face")],
)
def test_a_poor_face_is_uncertain_and_keeps_its_score(
    judge: Predictor, portrait: np.ndarray, damage: object, words: str
) -> None:
    assert callable(damage)
    result = only(judge, damage(portrait))
    assert result.verdict == "uncertain"
    assert [warning.startswith(words) for warning in result.unreliable] == [True]
    assert set(result.unreliable) <= set(result.warnings)
    unmeasured = Predictor(
        Brightness(), Card(resize=64, threshold=0.3), device="cpu", finder=judge.finder
    )
    plain = only(unmeasured, damage(portrait))
    assert plain.score == pytest.approx(result.score, abs=1e-6)
    assert plain.verdict == ("fake" if plain.score >= 0.3 else "real")  # nothing to compare with
    assert plain.warnings == result.warnings
    own = Predictor(Brightness(), MEASURED, device="cpu", threshold=0.3, finder=judge.finder)
    assert only(own, damage(portrait)).verdict != "uncertain"  # two verdicts only, as was asked


def test_a_tiny_face_is_uncertain(judge: Predictor, portrait: np.ndarray) -> None:
    """A face of 19 pixels was called fake with 0.90."""
    found = only(judge, portrait).face
    assert found is not None
    result = only(judge, shrink(portrait, 30 / max(found.width, found.height)))
    assert result.verdict == "uncertain"
    assert any(warning.startswith("small face (") for warning in result.unreliable)


def test_a_corrupt_file_is_uncertain_whatever_the_bands(
    judge: Predictor, portrait: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(corrupt_jpeg(portrait, share=0.8, quality=90))
    for one in (
        judge,
        Predictor(Brightness(), Card(resize=64), device="cpu", finder=judge.finder),
        Predictor(Brightness(), MEASURED, device="cpu", threshold=0.3, finder=judge.finder),
    ):
        result = only(one, path)
        assert result.verdict == "uncertain"
        (reason, *_) = result.unreliable
        assert reason.startswith("damaged file (Corrupt JPEG data: premature end of data segment)")
        assert to_json(result)["unreliable"] == list(result.unreliable)
        with Image.open(path) as image:
            pixels = np.asarray(image)  # Pillow says nothing
        assert only(one, pixels).score == pytest.approx(result.score, abs=1e-6)


def test_the_whole_of_an_image_without_a_face_is_uncertain(judge: Predictor) -> None:
    """A coffee cup was called real, and grass forged."""
    rng = np.random.default_rng(0)
    grass = rng.integers(60, 160, (120, 120, 3), np.uint8)
    result = only(judge.using(finder=WholePicture(check=True)), grass)
    assert (result.verdict, result.unreliable) == ("uncertain", (NO_FACE,))
    assert only(judge.using(finder=WholePicture()), grass).verdict == "fake"


def test_a_lying_portrait_is_judged_as_the_upright_one(
    judge: Predictor, portrait: np.ndarray
) -> None:
    """Without EXIF: the embedded weights gave 0.628 upright and 0.227 lying."""
    unaligned = judge.using(finder=DetectedFaces(align=False))
    for one in (judge, unaligned, judge.using(finder=WholePicture(check=True))):
        upright = only(one, portrait)
        for turns in (1, 2, 3):
            lying = only(one, np.ascontiguousarray(np.rot90(portrait, turns)))
            assert lying.score == pytest.approx(upright.score, abs=0.02)


def test_a_video_is_uncertain_where_most_of_its_frames_are_poor(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fine = rng.integers(100, 160, (40, 40, 1), np.uint8).repeat(3, 2)

    def frames(num_dark: int) -> list[np.ndarray]:
        found = [draw((10, 20, 40, 50))] * num_dark
        for _ in range(8 - num_dark):
            frame = draw((10, 20, 40, 50))
            frame[20:60, 10:50] = fine
            found.append(frame)
        return found

    class Found(Squares):
        name = "detected"

    judge = Predictor(Brightness(), MEASURED, device="cpu", finder=Found())
    few = judge_video(judge, encode(tmp_path / "few.mkv", frames(3), lossless=True))
    most = judge_video(judge, encode(tmp_path / "most.mkv", frames(5), lossless=True))
    assert (few.verdict, few.unreliable) == ("fake", ())
    assert most.verdict == "uncertain"
    assert most.score >= 0.3
    assert set(most.unreliable) <= set(most.warnings)
    assert "in 5 of 8 frames of this face: very dark face" in " ".join(most.unreliable)
    assert to_json(most)["unreliable"] == list(most.unreliable)
