from __future__ import annotations

import hashlib
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mfclip.card import Card, read_card
from mfclip.errors import ConfigError, InputError, WeightsError
from mfclip.labels import LEVELS
from mfclip.model.mfclip import MFCLIP
from mfclip.predict.face_reader import check_pixels
from mfclip.predict.face_scorer import to_images
from mfclip.predict.faces import Crop
from mfclip.predict.prediction import Box, Failure, Prediction, Result
from mfclip.predict.predictor import Predictor
from mfclip.runtime.device import find_device


def judged(results: list[Result]) -> list[Prediction]:
    assert all(isinstance(result, Prediction) for result in results), results
    return [result for result in results if isinstance(result, Prediction)]


def failed(result: Result) -> str:
    assert isinstance(result, Failure)
    return result.error


def by_hand(pixels: np.ndarray, resize: int, size: int = 224) -> Tensor:
    """Centre square, Pillow's bicubic, centre crop: written again with Pillow alone."""
    image = Image.fromarray(pixels)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((resize, resize), Image.Resampling.BICUBIC)
    edge = (resize - size) // 2
    cropped = np.asarray(image.crop((edge, edge, edge + size, edge + size)))
    return torch.tensor(cropped).permute(2, 0, 1)[None] / 255


def test_score_is_the_softmax_of_the_model_run_by_hand(
    model: MFCLIP, predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    results = judged(predictor.predict(pictures))
    scores = []
    for picture, result in zip(pictures, results, strict=True):
        with torch.no_grad():
            real, fake = model(by_hand(picture, 240))[0].tolist()
        scores.append(1 / (1 + math.exp((real - fake) / 2)))  # temperature 2
        assert result.score == pytest.approx(scores[-1], abs=1e-5)
        assert result.verdict == ("fake" if scores[-1] >= 0.4 else "real")
    assert max(scores) - min(scores) > 1e-3  # otherwise the test could not tell them apart


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batching_changes_neither_score_nor_order(
    predictor: Predictor, pictures: list[np.ndarray], batch_size: int
) -> None:
    alone = [judged(predictor.predict([picture]))[0] for picture in pictures]
    together = judged(predictor.predict(pictures, batch_size=batch_size))
    for one, other in zip(alone, together, strict=True):
        assert other.score == pytest.approx(one.score, abs=1e-5)
        assert (other.width, other.height, other.patch) == (one.width, one.height, one.patch)


def test_kinds_are_the_softmax_over_prompts_summed_by_hand(
    model: MFCLIP, predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    (result,) = judged(predictor.predict(pictures[:1]))
    with torch.no_grad():
        features = model.encode_image(by_hand(pictures[0], 240))[0]
        weights = torch.exp(model.logit_scale * (model.prompt_features @ features))
    by_prompt = dict(zip(model.prompts, (weights / weights.sum()).tolist(), strict=True))
    gan = sum(share for labels, share in by_prompt.items() if labels.family == "gan")
    names = {kind.name: kind.probability for kind in result.kinds["family"]}
    assert names["gan"] == pytest.approx(gan, abs=1e-5)
    assert tuple(result.kinds) == LEVELS
    for kinds in result.kinds.values():
        shares = [kind.probability for kind in kinds]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert shares == sorted(shares, reverse=True)
    likely = result.likely_kind("manipulation")
    assert likely is not None
    assert likely.name != "real"


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_richest_patch_is_where_the_texture_was_put(
    predictor: Predictor, row: int, column: int
) -> None:
    picture = np.full((240, 240, 3), 90, np.uint8)
    top, left = 8 + 112 * row, 8 + 112 * column  # the centre crop begins at 8
    rng = np.random.default_rng(1)
    picture[top : top + 112, left : left + 112] = rng.integers(0, 256, (112, 112, 3))
    (result,) = judged(predictor.predict([picture]))
    expected = Box(112 * column, 112 * row, 112 * column + 112, 112 * row + 112)
    assert result.patch == expected


def test_bad_files_are_reported_in_their_place_and_the_rest_is_scored(
    predictor: Predictor, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(pictures[0]).save(good)
    (tmp_path / "empty.jpg").touch()
    inputs = [tmp_path / "empty.jpg", good, Failure("x", "found earlier"), str(good), "absent.png"]
    results = predictor.predict(inputs, batch_size=2)
    kinds = [type(result).__name__ for result in results]
    assert kinds == ["Failure", "Prediction", "Failure", "Prediction", "Failure"]
    assert "empty" in failed(results[0])
    assert failed(results[2]) == "found earlier"
    (array,) = judged(predictor.predict([pictures[0]]))
    for result in judged([results[1], results[3]]):
        assert result.score == pytest.approx(array.score, abs=1e-6)
        assert result.sha256 == hashlib.sha256(good.read_bytes()).hexdigest()


def test_memory_is_flat_because_no_more_than_two_batches_are_in_hand(
    predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    taken = 0

    def inputs() -> Iterator[np.ndarray]:
        nonlocal taken
        for picture in pictures:
            taken += 1
            yield picture

    results = predictor.iter_predict(inputs(), batch_size=2)
    next(results)
    assert taken <= 4
    assert len(list(results)) == 4


def test_files_read_ahead_keep_their_order_and_errors_their_place(
    predictor: Predictor, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    files = []
    for number in range(23):
        files.append(tmp_path / f"{number}.png")
        if number % 5 == 3:
            files[-1].write_bytes(b"no picture")
        else:
            Image.fromarray(np.roll(pictures[0], number, 1)).save(files[-1])
    together = predictor.predict(files, batch_size=4)
    alone = [result for file in files for result in predictor.predict(file)]
    assert [result.path for result in together] == [str(file) for file in files]
    for one, other in zip(together, alone, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Prediction) and isinstance(other, Prediction):
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_an_interrupt_ends_the_reading_threads(
    predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    def inputs() -> Iterator[np.ndarray]:
        yield from pictures
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.predict(inputs(), batch_size=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("mfclip-read")]


def test_every_face_gets_a_prediction(model: MFCLIP, pictures: list[np.ndarray]) -> None:
    class Halves:
        name = "halves"

        def find(self, picture: np.ndarray) -> list[Crop]:
            if picture.shape[1] < 250:
                raise InputError("no face found; use --whole")
            half = picture.shape[1] // 2
            box = Box(half, 0, picture.shape[1], picture.shape[0])
            return [Crop(picture[:, :half], Box(0, 0, half, picture.shape[0])),
                    Crop(picture[:, half:], box, ("dark face",))]  # fmt: skip

    predictor = Predictor(model, device="cpu", finder=Halves())
    wide, narrow = pictures[0], pictures[1]
    left, right, none = predictor.predict([wide, narrow], batch_size=1)
    assert "no face found" in failed(none)
    halves = judged([left, right])
    assert halves[1].warnings[0] == "dark face"
    assert halves[1].face == Box(128, 0, 256, 256)
    plain = Predictor(model, device="cpu").predict([wide[:, :128], wide[:, 128:]])
    for found, alone in zip(halves, judged(plain), strict=True):
        assert found.score == pytest.approx(alone.score, abs=1e-5)


def test_faces_are_saved_as_the_training_faces_were(
    model: MFCLIP, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    card = Card(resize=240, jpeg_quality=70)
    alike = Predictor(model, card, device="cpu")
    plain = Predictor(model, Card(resize=240), device="cpu")
    scaled = Image.fromarray(pictures[0]).resize((240, 240))
    scaled.save(tmp_path / "face.jpg", quality=70)
    array, as_file = np.asarray(scaled), tmp_path / "face.jpg"
    (saved,) = judged(plain.predict([as_file]))
    (first,) = judged(alike.predict([array]))
    assert first.score == pytest.approx(saved.score, abs=1e-6)
    assert first.score != pytest.approx(judged(plain.predict([array]))[0].score, abs=1e-6)


def test_another_detector_gives_scores_only(pictures: list[np.ndarray]) -> None:
    class Brightness(nn.Module):
        image_size = 64

        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean((1, 2, 3))
            return torch.stack([torch.zeros_like(mean), torch.log(mean / (1 - mean))], 1)

    flat = np.full((80, 80, 3), 51, np.uint8)  # 51 / 255 = 0.2
    (result,) = judged(Predictor(Brightness(), Card(resize=80), device="cpu").predict([flat]))
    assert result.score == pytest.approx(0.2, abs=1e-5)
    assert (dict(result.kinds), result.patch, result.image_size) == ({}, None, 64)


def test_kept_pixels_are_the_model_input(predictor: Predictor, pictures: list[np.ndarray]) -> None:
    (kept,) = judged(list(predictor.iter_predict([pictures[1]], keep_pixels=True)))
    assert kept.pixels is not None
    mine = by_hand(pictures[1], 240)
    torch.testing.assert_close(to_images([kept.pixels]), mine)
    (plain,) = judged(predictor.predict([pictures[1]]))
    assert plain.pixels is None


def test_weights_that_give_no_number_are_an_error(
    model: MFCLIP, pictures: list[np.ndarray]
) -> None:
    class Broken(nn.Module):
        image_size = 224

        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 2), math.nan)

    (result,) = Predictor(Broken(), device="cpu").predict(pictures[:1])
    assert "no finite score" in failed(result)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_picture_are_refused(predictor: Predictor, array: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"RGB array of uint8.*but got"):
        check_pixels(array)
    assert "RGB array of uint8" in failed(predictor.predict([array])[0])


def test_wrong_settings_are_refused(model: MFCLIP) -> None:
    with pytest.raises(ConfigError, match=r"threshold in \[0, 1\], but got 1.5"):
        Predictor(model, device="cpu", threshold=1.5)
    with pytest.raises(ConfigError, match="no device 'gpu' on this machine; expected auto"):
        Predictor(model, device="gpu")
    with pytest.raises(ConfigError, match="batch_size of at least 1, but got 0"):
        Predictor(model, device="cpu").predict([], batch_size=0)
    with pytest.raises(WeightsError, match=r"no weights at .*absent.safetensors"):
        Predictor.load("absent.safetensors")


def test_auto_takes_the_accelerator_if_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.backends.mps.is_available():
        assert find_device("auto").type == expected


def test_a_threshold_of_the_caller_goes_before_the_card(
    model: MFCLIP, pictures: list[np.ndarray]
) -> None:
    for threshold, verdict in ((0.0, "fake"), (1.0, "real")):
        strict = Predictor(model, Card(threshold=0.4), device="cpu", threshold=threshold)
        (result,) = judged(strict.predict(pictures[:1]))
        assert (result.verdict, result.bands.fake_from) == (verdict, threshold)


def test_description_has_no_number_that_json_lacks(model: MFCLIP) -> None:
    card = read_card({"metrics": {"test": {"auc": math.nan, "eer": 0.1}}, "note": math.inf})
    described = Predictor(model, card, device="cpu").describe()
    assert described["metrics"]["test"] == {"auc": {"value": None}, "eer": {"value": 0.1}}
    assert described["note"] is None
    assert (described["verdict"]["fake_from"], described["faces"]) == (0.5, "whole")


# what issue 2 calls bad input, as far as a picture to be judged goes


def test_unusual_pictures_are_judged_like_their_plain_selves(
    predictor: Predictor, tmp_path: Path
) -> None:
    ramp = np.tile(np.linspace(0, 255, 256).astype(np.uint8), (256, 1))
    plain = Image.fromarray(np.stack([ramp, ramp.T, 255 - ramp], 2))
    grey = plain.convert("L").convert("RGB")
    deep = Image.fromarray(np.asarray(plain.convert("L")).astype(np.uint16) * 257)
    saved: dict[str, tuple[Image.Image, Image.Image]] = {}
    for name, picture, same_as in (
        ("cmyk.tif", plain.convert("CMYK"), plain.convert("CMYK").convert("RGB")),
        ("palette.png", plain.quantize(16), plain.quantize(16).convert("RGB")),
        ("alpha.png", plain.convert("RGBA"), plain),
        ("grey.png", plain.convert("L"), grey),
        ("bits16.png", deep, grey),
    ):  # fmt: skip
        picture.save(tmp_path / name)
        saved[name] = (picture, same_as)
    inputs = [tmp_path / name for name in saved]
    expected = [np.asarray(same_as) for _, same_as in saved.values()]
    results = judged(predictor.predict(inputs))
    for result, same in zip(results, judged(predictor.predict(expected)), strict=True):
        assert result.score == pytest.approx(same.score, abs=1e-5), result.path


def test_exif_rotation_is_undone_and_only_the_first_frame_counts(
    predictor: Predictor, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    upright, second = (Image.fromarray(picture) for picture in pictures[1:3])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is shown after a quarter clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    frames = [second.resize(upright.size)]
    upright.save(tmp_path / "moving.png", save_all=True, append_images=frames)
    results = judged(predictor.predict([tmp_path / "turned.png", tmp_path / "moving.png"]))
    (expected,) = judged(predictor.predict([pictures[1]]))
    for result in results:
        assert result.score == pytest.approx(expected.score, abs=1e-5)
        assert (result.width, result.height) == (240, 300)


def test_files_that_cannot_be_judged_say_why(predictor: Predictor, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8))
    image.save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "zero.gif").write_bytes(b"GIF89a" + bytes(7) + b"," + bytes(9) + b";")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    expected = {
        "cut.jpg": "damaged or cut short",
        "empty.jpg": "empty",
        "text.jpg": "not an image",
        "dangling.jpg": "link",
        "zero.gif": "no pixels|damaged",
        "huge.png": "scale it down",
        "": "folder",
    }
    for name, message in expected.items():
        error = failed(predictor.predict([tmp_path / name])[0])
        assert any(part in error for part in message.split("|")), (name, error)
        assert str(tmp_path) not in error  # the record names the path once


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """A folder that every user of the machine may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_no_permission_is_said_and_the_others_are_judged(
    predictor: Predictor, readable_folder: Path
) -> None:
    names = [readable_folder / name for name in ("good.png", "locked.png")]
    for path in names:
        Image.new("RGB", (99, 99)).save(path)
        path.chmod(0o644)
    judged(predictor.predict(names))  # loads what decodes them
    names[1].chmod(0)
    is_root = os.geteuid() == 0  # root may read everything, so become somebody else
    if is_root:
        os.seteuid(65534)
    try:
        good, locked = predictor.predict(names)
    finally:
        if is_root:
            os.seteuid(0)
    assert isinstance(good, Prediction)
    assert failed(locked) == (
        "no permission to read it; change its permissions or run as its owner"
    )
