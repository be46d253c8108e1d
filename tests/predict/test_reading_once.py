"""A file is opened, hashed and decoded once; a video is scanned once; weights are read once."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from films import Brightness, Squares, draw, encode
from mfclip.card import Card
from mfclip.detectors import find_weights
from mfclip.media import images
from mfclip.predict.faces import WholePicture
from mfclip.predict.mixed import judge_files
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import look_closer
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.report.annotate import annotate
from mfclip.report.report import Report

WATCH: list[Callable[[str], None]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and WATCH and isinstance(arguments[0], str | bytes | os.PathLike):
        for told in WATCH:
            told(os.fsdecode(arguments[0]))


sys.addaudithook(_hook)  # can never be removed, so it does nothing unless it is asked


@contextmanager
def opens() -> Iterator[Counter[str]]:
    """Count how often Python opens each path."""
    found: Counter[str] = Counter()

    def told(path: str) -> None:
        found[path] += 1

    WATCH.append(told)
    try:
        yield found
    finally:
        WATCH.remove(told)


@pytest.fixture
def judge() -> Predictor:
    return Predictor(Brightness(), Card(resize=16), device="cpu", finder=Squares())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count hashes of more than a kilobyte, and JPEGs and other images that are decoded."""
    found: Counter[str] = Counter()

    def counting(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            found[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(images.hashlib, "sha256", counting("hash", hashlib.sha256))
    monkeypatch.setattr(images.hashlib, "file_digest", counting("hash", hashlib.file_digest))
    jpeg = counting("decode", images.simplejpeg.decode_jpeg)
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", jpeg)
    monkeypatch.setattr(images, "_to_rgb", counting("decode", images._to_rgb))
    monkeypatch.setattr(images.Image, "open", counting("header", Image.open))
    return found


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_an_image_with_its_report(
    judge: Predictor, tmp_path: Path, counted: Counter[str], format_: str
) -> None:
    path = tmp_path / "a.img"
    Image.fromarray(draw((10, 20, 40, 90), (90, 20, 40, 200))).save(path, format_)
    page = Report(judge.describe())
    with opens() as opened:
        results = list(judge_files(judge, [path], keep_pixels=True))
        for result in results:
            assert isinstance(result, Prediction)
            page.add(result)
        page.render()
    assert len(results) == 2
    assert opened[str(path)] == 1
    assert (counted["hash"], counted["decode"], counted["header"]) == (1, 1, 1)


def test_what_was_judged_is_what_was_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(draw((10, 20, 40, 90))).save(path)
    (result,) = Predictor(Brightness(), Card(resize=16), device="cpu").predict(path)
    assert isinstance(result, Prediction)
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_video_with_its_report_and_copy(
    judge: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", [draw((10, 20, 40, grey)) for grey in range(60, 120)])
    packets: Counter[str] = Counter()
    real_open = av.open

    class Counting:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def __enter__(self) -> Counting:
            self._container.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self._container.__exit__(*error)

        def demux(self, stream: Any) -> Iterator[Any]:
            packets["passes"] += 1
            for packet in self._container.demux(stream):
                packets["packets"] += 1
                yield packet

    def counting(file: Any, mode: str = "r", **options: Any) -> Any:
        container = real_open(file, mode, **options)
        return Counting(container) if mode == "r" else container

    monkeypatch.setattr(av, "open", counting)
    with opens() as opened:
        (video,) = judge_files(judge, [path], count=60)
    assert isinstance(video, VideoPrediction)
    assert opened[str(path)] == 3  # told by its head, told to FFmpeg, hashed
    assert packets["passes"] == 2  # scanned once, decoded once
    packets.clear()
    closer = list(look_closer(judge, video, video.moments))
    assert len(closer) == len(video.moments)
    assert packets["passes"] == 1
    annotate(video, tmp_path / "copy.mp4")
    assert packets["passes"] == 2


def test_an_upload_that_is_read_elsewhere_is_not_read_again(judge: Predictor) -> None:
    buffer = io.BytesIO()
    Image.fromarray(draw((10, 20, 40, 90))).save(buffer, "PNG")
    image = images.open_image(buffer.getvalue())
    (result,) = judge.predict(image)
    assert isinstance(result, Prediction)
    assert result.sha256 == image.sha256


def test_memory_of_a_report_does_not_grow_with_the_files(judge: Predictor, tmp_path: Path) -> None:
    """A prediction holds no more than a small copy, and the page none of it."""
    path = tmp_path / "large.png"
    Image.fromarray(draw((100, 200, 400, 90), size=(3000, 4000))).save(path, compress_level=1)
    (result,) = judge.iter_predict(path, keep_pixels=True)
    assert isinstance(result, Prediction)
    assert result.preview is not None
    assert result.preview.shape == (768, 1024, 3)
    assert result.pixels is not None
    assert result.preview.nbytes + result.pixels.nbytes < 3_000_000
    (plain,) = judge.predict(path)
    assert isinstance(plain, Prediction)
    assert plain.preview is None
    assert plain.pixels is None


def test_put_together_not_copied_and_bent(judge: Predictor) -> None:
    whole = judge.using(finder=WholePicture())
    assert (judge.finder.name, whole.finder.name) == ("squares", "whole")
    assert whole.engine is judge.engine
    assert whole.card is judge.card
    assert whole.detector is judge.detector
    for name in ("engine", "finder", "bands", "card"):
        with pytest.raises(AttributeError):
            setattr(judge, name, None)
    picture = np.full((40, 40, 3), 51, np.uint8)
    (result,) = whole.predict(picture)
    assert isinstance(result, Prediction)
    assert result.score == pytest.approx(0.2, abs=0.01)


def test_bands_are_those_of_the_way_to_come_by_faces() -> None:
    verdict = {
        "whole": {"real_below": 0.1, "fake_from": 0.2, "basis": "validation", "max_error": 0.1},
        "detected": {"real_below": 0.6, "fake_from": 0.9, "basis": "validation", "max_error": 0.1},
    }
    card = Card.model_validate({"resize": 16, "verdict": verdict})

    class Found(Squares):
        name = "detected"

    judge = Predictor(Brightness(), card, device="cpu", finder=Found())
    assert (judge.bands.real_below, judge.bands.fake_from) == (0.6, 0.9)
    whole = judge.using(finder=WholePicture())
    assert (whole.bands.real_below, whole.bands.fake_from) == (0.1, 0.2)
    own = Predictor(Brightness(), card, device="cpu", threshold=0.3, finder=Found())
    assert own.using(finder=WholePicture()).bands.fake_from == 0.3


@pytest.mark.parametrize("keep_detector", [False, True])
def test_weights_are_read_once(keep_detector: bool) -> None:
    path = str(find_weights(None))
    expected = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with opens() as opened:
        judge = Predictor.load(device="cpu", engine="torch", keep_detector=keep_detector)
        assert judge.card.model_extra is not None
        assert judge.card.model_extra["weights_sha256"] == expected
        if keep_detector:
            assert judge.detector is judge.using(finder=WholePicture()).detector
    assert opened[path] == 1
    with opens() as opened:
        assert judge.detector is judge.detector
    assert opened[path] == (not keep_detector)  # read again, deliberately, and once
