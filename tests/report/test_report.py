from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.card import Bands, read_card
from mfclip.model.srm import srm_kernels
from mfclip.predict.prediction import Failure, Kind, Prediction, Result
from mfclip.predict.predictor import Predictor
from mfclip.report.report import Report
from mfclip.report.views import noise_picture
from mfclip.report.wording import printable

CARD = {
    "trained_on": "faces <of> 2024",
    "licence": "research use",
    "limits": "errs on <small> faces",
    "weights": "embedded",
    "weights_sha256": "c0ffee",
    "faces": "whole",
    "resize": 240,
    "metrics": {
        "test": {"auc": [0.931, 0.92, 0.94]},
        "test_unseen": {"auc": {"value": 0.8, "low": 0.7, "high": 0.9}, "eer": None},
    },
    "verdict": {
        "real_below": 0.3,
        "fake_from": 0.7,
        "max_error": 0.1,
        "rates": {
            "val": {"false_alarm": {"value": 0.1}, "miss": {"value": 0.05}},
            "test": {"false_alarm": {"value": 0.14, "low": 0.1, "high": 0.2}, "miss": None},
        },
    },
}
MODEL = {**read_card(CARD).to_json(), "verdict": read_card(CARD).bands("whole").to_json()}


class Page(HTMLParser):
    """Collects what a reader and a screen reader get, and checks that tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "img":
            self.images.append(given)
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag not in {"img", "meta", "br", "link"}:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.headings.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def results(predictor: Predictor, pictures: list[np.ndarray], tmp_path: Path) -> list[Result]:
    paths = [tmp_path / "a<b>&.png", tmp_path / "second.png"]
    for path, picture in zip(paths, pictures, strict=False):
        Image.fromarray(picture).save(path)
    return list(predictor.iter_predict([*paths, Failure("bad<i>.jpg", "empty")], keep_pixels=True))


def render(results: list[Result]) -> str:
    report = Report(MODEL)
    for result in results:
        report.add(result)
    return report.render()


def pixels_of(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_page_says_all_that_a_reader_needs(results: list[Result], tmp_path: Path) -> None:
    page = Page(render(results))
    assert page.open == []
    fake = sum(isinstance(r, Prediction) and r.verdict == "fake" for r in results)
    assert (
        f"2 faces judged: {fake} called fake, 0 uncertain, {2 - fake} called real. 1 file could not"
        in page.text
    )
    for result in results[:2]:
        assert isinstance(result, Prediction)
        assert f"score {result.score:.3f}" in page.text
        digest = hashlib.sha256(Path(str(result.path)).read_bytes()).hexdigest()
        assert digest in page.text
    for words in (
        "a<b>&.png",
        "bad<i>.jpg",
        "faces <of> 2024",
        "93% [92, 94]",
        "80% [70, 90]",
        "Real faces called fake 10% 14% [10, 20] -",
        "Forgeries called real 5% not known -",
        "at most 10% of real faces are called fake",
        "research use",
        "Known limits : errs on <small> faces",
        "Evidence, not proof.",
        "c0ffee",
        "whole picture",
        "UTC",
    ):
        assert words in page.text, words


def test_page_needs_nothing_from_elsewhere_and_reads_aloud(results: list[Result]) -> None:
    page = Page(render(results))
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert len(page.images) == 2 + 8  # overview; picture, model input, patch, noise, twice
    assert all(image["alt"] for image in page.images)
    assert page.headings[:3] == ["h1", "h2", "h3"]
    assert page.headings.count("h1") == 1


def test_pictures_are_the_model_input_its_patch_and_noise(results: list[Result]) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    assert first.pixels is not None
    assert first.patch is not None
    picture, seen, patch, noise = [image["src"] for image in Page(render(results)).images[2:6]]
    assert pixels_of(picture).shape == (256, 256, 3)
    difference = pixels_of(seen).astype(int) - first.pixels
    assert np.abs(difference).mean() < 8  # JPEG
    box = first.patch
    cut = first.pixels[box.top : box.bottom, box.left : box.right]
    assert np.abs(pixels_of(patch).astype(int) - cut).mean() < 8
    np.testing.assert_array_equal(pixels_of(noise), noise_picture(cut)[:, :, 0])


def test_noise_of_one_bright_pixel_is_the_mean_of_the_kernels() -> None:
    patch = np.zeros((9, 9, 3), np.uint8)
    patch[4, 4, 0] = 2
    response = (2 * srm_kernels().flip(1, 2)).clamp(-3, 3).mean(0).numpy()
    expected = np.rint((response / 3 + 1) * 127.5)
    grey = noise_picture(patch)
    np.testing.assert_array_equal(grey[2:7, 2:7, 0], expected)
    assert set(np.unique(grey[:2])) == {128}  # round half to even: no noise is mid-grey


def test_frame_is_the_part_that_the_model_input_shows(results: list[Result]) -> None:
    # 256 x 256 picture, square of 240 scaled, crop of 224: 224 / 240 of the side, centred
    left, width = re.findall(r"<span style=\"left:([\d.]+)%.*?width:([\d.]+)%", render(results))[0]
    assert float(width) == pytest.approx(100 * 224 / 240, abs=0.5)
    assert float(left) == pytest.approx((100 - 100 * 224 / 240) / 2, abs=0.5)


def test_a_file_changed_since_is_shown_as_it_was_judged(results: list[Result]) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    before = render(results)
    Image.new("RGB", (50, 50)).save(str(first.path))
    assert Page(render(results)).images == Page(before).images
    Path(str(first.path)).unlink()
    assert Page(render(results)).images == Page(before).images


def test_overview_links_each_face_to_its_details(results: list[Result]) -> None:
    text = render(results)
    overview = text[text.index('<ul class="overview">') : text.index("</ul>")]
    assert re.findall(r'href="#(.*?)"', overview) == re.findall(r'<article id="(.*?)"', text)
    shown = Page(overview)
    small = [image["src"] for image in shown.images]
    for source, result in zip(small, results[:2], strict=True):
        assert isinstance(result, Prediction)
        assert result.pixels is not None
        halved = Image.fromarray(result.pixels).resize((192, 192))
        assert np.abs(pixels_of(source).astype(int) - np.asarray(halved)).mean() < 8  # JPEG
        assert f"{result.verdict} {result.score:.3f}" in shown.text
    assert 'class="overview"' not in render(results[:1])


def test_kinds_are_named_for_a_fake_only_and_none_as_zero_percent(results: list[Result]) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    kinds = {"family": (Kind("gan", 0.7), Kind("real", 0.298), Kind("graphics", 0.002))}
    fake = replace(first, score=0.9, bands=Bands(0.2, 0.5), kinds=kinds)
    text = Page(render([fake])).text
    assert "family GAN 70%, real 30%" in text
    assert "the nearest one it knows" in text
    assert "0%, graphics" not in text
    for score in (0.1, 0.3):
        assert "GAN" not in Page(render([replace(fake, score=score)])).text


def test_verdict_stands_on_its_scale_with_what_it_is_worth(results: list[Result]) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    bands = read_card(CARD).bands("whole")
    text = render([replace(first, score=0.9, bands=bands)])
    assert 'aria-label="score 0.90 on a scale from 0 to 1; real below 0.30, fake from 0.70"' in text
    assert '<i class="uncertain" style="left:30.0%;width:40.0%">' in text
    assert '<b style="left:90.0%">' in text
    assert "in tests, 14% [10, 20] (test) of the real faces were called fake, too" in text
    assert "the first" not in Page(render([replace(first, score=0.5, bands=bands)])).text
    assert "this score decides nothing" in render([replace(first, score=0.5, bands=bands)])
    two = render([replace(first, score=0.9, bands=Bands(0.5, 0.5))])
    assert '<i class="uncertain"' not in two
    assert "was not measured" in two


def test_heat_map_of_each_face_is_shown(results: list[Result]) -> None:
    report = Report(MODEL, show_heat=lambda pixels: np.full_like(pixels, 200))
    for result in results:
        report.add(result)
    heat = [i for i in Page(report.render()).images if i["alt"].startswith("Heat map")]
    assert len(heat) == 2
    assert np.abs(pixels_of(heat[0]["src"]).astype(int) - 200).max() < 3


def test_weights_without_figures_are_not_to_be_relied_on() -> None:
    text = Page(Report({"verdict": Bands(0.5, 0.5, "threshold").to_json()}).render()).text
    assert "do not say what they were trained on" in text
    assert "no measured error rates" in text
    assert "No picture could be judged" in text


def test_page_is_written_whole(results: list[Result], tmp_path: Path) -> None:
    report = Report(MODEL)
    report.write(tmp_path / "out" / "r.html")
    assert Page((tmp_path / "out" / "r.html").read_text("utf-8")).open == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["r.html"]


def test_file_names_cannot_steer_a_terminal() -> None:
    name = "a\x1b[31m\nb" + b"\xff".decode("utf-8", "surrogateescape")
    assert printable(name) == "a\ufffd[31m\ufffdb\ufffd"
    assert printable("Zoë 山.jpg") == "Zoë 山.jpg"
