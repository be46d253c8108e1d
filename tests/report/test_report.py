from __future__ import annotations

import base64
import ctypes.util
import hashlib
import io
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mfclip.report.report
from mfclip.card import Bands, read_card
from mfclip.errors import MissingExtraError
from mfclip.model.srm import srm_kernels
from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Result
from mfclip.predict.predictor import Predictor
from mfclip.report.report import Report, describe_model, to_pdf
from mfclip.report.views import noise_picture
from mfclip.report.wording import LANGUAGES, Language, Words

PANGO = ctypes.util.find_library("pango-1.0")
"""WeasyPrint draws text with it; it is no Python package."""

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
    "fitted_on": "val",
    "kinds": {
        "test": {"family": {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.3, "faces": 90}},
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

SHAPES = {"circle", "line", "path", "rect"}
"""Elements of SVG that may close themselves."""


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
        if tag not in {"img", "meta", "br", "link"} | SHAPES:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.headings.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in SHAPES or self.open.pop() == tag

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


def render(results: list[Result], **options: Any) -> str:
    report = Report(MODEL, **options)
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
        f"2 faces judged: {fake} called forged, 0 uncertain, {2 - fake} called real. 1 file could"
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
        "Faces <of> 2024.",
        "A forgery scores above a real face (AUC) 93% (92% to 94%) 80% (70% to 90%) not known",
        "Real faces called forged 14% (10% to 20%) not known 10%",
        "Forged faces called real not known not known 5%",
        "val, on which the limits were fitted",
        "at most 10% of real faces are called forged",
        "Research use.",
        "Known limits Errs on <small> faces.",
        "Evidence, not proof.",
        "c0ffee",
        "whole picture",
        "UTC",
    ):
        assert words in page.text, words


def test_page_needs_nothing_from_elsewhere_and_reads_aloud(results: list[Result]) -> None:
    text = render(results)
    page = Page(text)
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert len(page.images) == 2 + 8  # overview; picture, model input, patch, noise, twice
    assert all(image["alt"] for image in page.images)
    assert page.headings[:3] == ["h1", "h2", "h3"]
    assert page.headings.count("h1") == 1
    assert not re.search(r"\sstyle=", text)  # places and colours pass a strict policy


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_there_in_every_language(results: list[Result], language: Language) -> None:
    words = Words(language)
    page = Page(render(results, words=words))
    assert page.open == []
    for key in ("report.evidence", "reading.title", "view.seen", "limits.false_alarm"):
        assert words(key) in page.text
    assert "{" not in page.text


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
    frame = re.search(r'class="frame" x="(\d+)" y="\d+" width="(\d+)"', render(results))
    assert frame is not None
    left, width = map(int, frame.groups())
    assert width == pytest.approx(256 * 224 / 240, abs=1)
    assert left == pytest.approx((256 - 256 * 224 / 240) / 2, abs=1)


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
    assert re.findall(r'href="#(.*?)"', overview) == re.findall(r'class="face" id="(.*?)"', text)
    shown = Page(overview)
    small = [image["src"] for image in shown.images]
    words = {"fake": "forged", "real": "real"}
    for source, result in zip(small, results[:2], strict=True):
        assert isinstance(result, Prediction)
        assert result.pixels is not None
        halved = Image.fromarray(result.pixels).resize((192, 192))
        assert np.abs(pixels_of(source).astype(int) - np.asarray(halved)).mean() < 8  # JPEG
        assert f"{words[result.verdict]} {result.score:.3f}" in shown.text
    assert '<ul class="overview">' not in render(results[:1])


def test_faces_of_one_file_stand_together_each_with_its_number(results: list[Result]) -> None:
    first, second = results[0], results[1]
    assert isinstance(first, Prediction)
    boxes = (Box(10, 20, 50, 70), Box(100, 20, 150, 70))
    two = [replace(first, face=box, score=s) for box, s in zip(boxes, (0.9, 0.1), strict=True)]
    text = render([*two, second])
    assert text.count("<article") == 2
    page = Page(text)
    assert "2 faces found." in page.text
    assert "Face 1 of 2" in page.text
    assert "Face 2 of 2" in page.text
    marks = re.findall(r'class="mark" href="#(.*?)"', text)
    assert marks == ["file-1-face-1", "file-1-face-2"]
    assert all(f'id="{mark}"' in text for mark in marks)
    digests = page.text.count(str(first.sha256))
    assert digests == 1
    # the same face again is the same file given twice
    assert render([two[0], two[0]]).count("<article") == 2


def test_kinds_are_named_closed_for_a_fake_only_and_none_as_zero_percent(
    results: list[Result],
) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    kinds = {
        "family": (Kind("gan", 0.7), Kind("real", 0.298), Kind("graphics", 0.002)),
        "generator": (Kind("StyleGAN2", 1.0),),
    }
    fake = replace(first, score=0.9, bands=Bands(0.2, 0.5), kinds=kinds)
    html = render([fake])
    text = Page(html).text
    assert "family GAN 70%, none (real) 30%" in text
    assert "the nearest one it knows" in text
    assert "graphics" not in text
    assert "StyleGAN2" not in text  # how often a generator is named rightly was not measured
    assert '<details class="kinds">' in html
    for score in (0.1, 0.3):
        assert "GAN" not in Page(render([replace(fake, score=score)])).text


def test_verdict_stands_on_its_scale_with_what_it_is_worth(results: list[Result]) -> None:
    first = results[0]
    assert isinstance(first, Prediction)
    bands = read_card(CARD).bands("whole")
    text = render([replace(first, score=0.9, bands=bands)])
    assert 'aria-label="Score 0.900 on a scale from 0, real, to 1, forged. Below 0.300' in text
    assert '<rect class="band uncertain" x="30.0%" y="13" width="40.0%"' in text
    assert '<line class="pin" x1="90.0%"' in text
    assert "14% (10% to 20%) of real faces were called forged too" in text
    uncertain = Page(render([replace(first, score=0.5, bands=bands)])).text
    assert "Such a score decides nothing" in uncertain
    two = render([replace(first, score=0.9, bands=Bands(0.5, 0.5))])
    assert 'class="band uncertain"' not in two
    assert "is not known" in two


def test_heat_map_of_each_face_is_shown(results: list[Result]) -> None:
    report = Report(MODEL, show_heat=lambda pixels: np.full_like(pixels, 200))
    for result in results:
        report.add(result)
    heat = [i for i in Page(report.render()).images if i["alt"].startswith("Heat map")]
    assert len(heat) == 2
    assert np.abs(pixels_of(heat[0]["src"]).astype(int) - 200).max() < 3


def test_a_file_goes_by_the_name_it_is_given(results: list[Result], tmp_path: Path) -> None:
    report = Report(MODEL)
    assert isinstance(results[0], Prediction)
    report.add(results[0], name="Holiday <1>.png")
    text = report.render()
    assert "<h3>Holiday &lt;1&gt;.png</h3>" in text
    assert str(tmp_path) not in text
    assert len(Page(text).images) == 4  # the picture was found under its own name


def test_faces_beyond_the_limit_are_counted(
    results: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mfclip.report.report, "MAX_FACES", 3)
    assert isinstance(results[0], Prediction)
    text = render([replace(results[0], pixels=None)] * 5)
    assert text.count("<article") == 3
    assert "5 faces judged" in text
    assert "This report shows the first 3 faces." in text


def test_weights_without_figures_are_not_to_be_relied_on() -> None:
    text = Page(Report({"verdict": Bands(0.5, 0.5, "threshold").to_json()}).render()).text
    assert "do not say what they were trained on" in text
    assert "No error rates were measured" in text
    assert "Nothing could be judged" in text


def test_page_is_written_whole(results: list[Result], tmp_path: Path) -> None:
    report = Report(MODEL)
    report.write(tmp_path / "out" / "r.html")
    assert Page((tmp_path / "out" / "r.html").read_text("utf-8")).open == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["r.html"]


def test_the_model_is_described_in_the_words_of_the_report(results: list[Result]) -> None:
    about = describe_model(MODEL, Words())
    assert about in render(results)
    assert Page(about).open == []


class TestPdf:
    pytestmark = pytest.mark.skipif(not PANGO, reason="Pango is not on this machine")

    def test_document_holds_each_picture_once_and_its_title(
        self, results: list[Result], tmp_path: Path
    ) -> None:
        report = Report(MODEL, title="Zoë И 山")
        report.add(results[0])
        report.write(tmp_path / "out" / "r.PDF")
        (path,) = (tmp_path / "out").iterdir()
        data = path.read_bytes()
        assert data.startswith(b"%PDF-")
        assert data.rstrip().endswith(b"%%EOF")
        assert data.count(b"/Subtype /Image") == 4  # picture, model input, patch, noise
        packed = re.findall(rb"/ObjStm.*?stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
        objects = b"".join(map(zlib.decompress, packed))
        assert "Zoë И 山".encode("utf-16-be").hex().encode() in objects.lower()

    def test_files_cut_short_stay_damaged_after_printing(self) -> None:
        code = (
            "import io\nfrom PIL import Image\nfrom mfclip.errors import InputError\n"
            "from mfclip.media.images import open_image\nfrom mfclip.report.report import to_pdf\n"
            "file = io.BytesIO()\nImage.effect_noise((99, 99), 50).save(file, 'JPEG')\n"
            "to_pdf('<p>text</p>')\n"
            "try:\n    open_image(file.getvalue()[:2000])\n"
            "except InputError as error:\n    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "damaged or cut short" in done.stdout, done.stdout + done.stderr

    def test_nothing_is_fetched(self, tmp_path: Path) -> None:
        (tmp_path / "secret.png").write_bytes(b"not to be read")
        place = (tmp_path / "secret.png").as_uri()
        data = to_pdf(f'<img src="{place}"><p>text</p>')
        assert b"/Subtype /Image" not in data


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mfclip\[report\]'"):
        to_pdf("<p>text</p>")


def test_without_pango_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, *, extra: str) -> None:
        raise OSError("cannot load library 'libpango-1.0-0'")

    monkeypatch.setattr(mfclip.report.report, "require", fail)
    with pytest.raises(MissingExtraError, match=r"apt install libpango.*print it in a browser"):
        to_pdf("<p>text</p>")
