"""The page in a real Chromium: what is shown is what the service answers, and nothing leaves it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.chromium import Chromium, find_chromium, start_chromium
from PIL import Image

from films import encode
from mfclip.predict.predictor import Predictor
from mfclip.serve.guard import Access
from mfclip.serve.limits import Limits
from serve.live import Live, Serve, run_server
from serve.visit import CONTRASTS, Page, visit

PAGE = Path(str(files("mfclip.serve").joinpath("page")))
DEMO = Path(str(files("mfclip").joinpath("assets/demo")))
WORDS = {"real": "Looks real", "uncertain": "Uncertain", "fake": "Looks forged"}

in_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def judge() -> Predictor:
    return Predictor.load(device="cpu")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with start_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(judge: Predictor) -> Iterator[Live]:
    with run_server(judge, Limits(max_frames=12)) as live:
        yield live


@pytest.fixture
def page(browser: Chromium, server: Live) -> Iterator[Page]:
    with visit(browser, server) as page:
        yield page


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds: one face, joined by a second one after a while."""
    portraits = [
        Image.open(DEMO / name).convert("RGB")
        for name in ("fake/hopper-splice.jpg", "real/collins.jpg")
    ]

    def frames() -> Iterator[np.ndarray]:
        for number in range(50):
            frame = Image.new("RGB", (640, 288), (70, 80, 95))
            frame.paste(portraits[0], (20 + number // 4, 16))
            if number >= 16:
                frame.paste(portraits[1], (360, 16))
            yield np.asarray(frame)

    return encode(tmp_path_factory.mktemp("film") / "clip.mp4", frames())


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with two faces."""
    both = Image.new("RGB", (512, 256))
    both.paste(Image.open(DEMO / "real/collins.jpg"), (0, 0))
    both.paste(Image.open(DEMO / "fake/hopper-splice.jpg"), (256, 0))
    path = tmp_path_factory.mktemp("group") / "group.png"
    both.save(path)
    return path


def test_the_page_names_nothing_elsewhere_and_keeps_to_its_policy() -> None:
    sources = {path.name: path.read_text() for path in PAGE.iterdir() if path.is_file()}
    html = sources["index.html"]
    assert not re.search(r"<script[^>]*>[^<]|<style|\sstyle=|\son\w+=", html)
    for name, text in sources.items():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]+[^\s\"'`]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    named = re.findall(r'(?:href|src)="page/([\w.]+)"', html)
    named += re.findall(r'from "\./([\w.]+)"', "".join(sources.values()))
    assert set(named) | {"index.html"} == sources.keys()


class TestInBrowser:
    pytestmark = in_browser

    def test_verdict_scores_and_boxes_are_the_predictors(
        self, page: Page, judge: Predictor
    ) -> None:
        paths = [DEMO / "photo/hopper.jpg", DEMO / "fake/hopper-splice.jpg"]
        page.judge(*paths)
        for number, found in enumerate(judge.predict(paths), start=1):
            assert page.text(f"#file-{number} .verdict-line .verdict") == WORDS[found.verdict]
            assert float(page.text(f"#file-{number} .score b")) == pytest.approx(
                found.score, abs=2e-3
            )
            style = page.browser.evaluate(
                f"(({{left, top, width, height}}) => [left, top, width, height].map(parseFloat))"
                f"(document.querySelector('#file-{number} .box').style)"
            )
            face = found.face
            wanted = [face.left / found.width, face.top / found.height,
                      face.width / found.width, face.height / found.height]  # fmt: skip
            assert style == pytest.approx([100 * side for side in wanted], abs=0.01)
            top = found.kinds["generator"][0]
            assert top.name in page.texts(f"#file-{number} .ranking li:first-child .kind")[2:] or (
                top.name == "real"
            )
        assert len(page.texts(".overview li")) == 2
        bands = judge.bands
        assert f"{bands.real_below:.3f}" in page.text("#bands")
        assert str(judge.card.limits)[:40] in page.text("#model-facts")

    def test_pictures_of_the_evidence_are_shown(self, page: Page) -> None:
        page.judge(DEMO / "real/collins.jpg")
        loaded = page.browser.evaluate(
            "Promise.all([...document.querySelectorAll('.card img')]"
            ".map((e) => e.decode().then(() => e.naturalWidth)))"
        )
        assert len(loaded) == 5  # picture, face, heat map, patch, noise
        assert loaded[:3] == [256, 224, 224]
        assert loaded[3] == loaded[4] < 224

    def test_choosing_a_face_shows_its_evidence(
        self, page: Page, judge: Predictor, group: Path
    ) -> None:
        page.judge(group)
        faces = judge.predict(group)
        assert len(faces) == 2
        suspect = int(np.argmax([face.score for face in faces]))
        for chosen in (suspect, 1 - suspect):
            if chosen != suspect:
                page.browser.click(f".layers .box:nth-of-type({chosen + 1})")
            assert page.text(".face-name") == f"Face {chosen + 1} of 2"
            assert float(page.text(".score b")) == pytest.approx(faces[chosen].score, abs=2e-3)
            pressed = "[...document.querySelectorAll('.layers .box')].map((e) => e.ariaPressed)"
            assert page.browser.evaluate(pressed)[chosen] == "true"
        page.browser.evaluate(f"document.querySelectorAll('.tab')[{suspect}].focus()")
        page.browser.press("Enter")
        assert page.text(".face-name") == f"Face {suspect + 1} of 2"

    def test_heat_slider_moves_by_keyboard(self, page: Page) -> None:
        page.judge(DEMO / "fake/hopper-splice.jpg")
        page.browser.evaluate("document.querySelector('input[type=range]').focus()")
        heat = "getComputedStyle(document.querySelector('.heat')).opacity"
        page.browser.press("Home")
        assert page.browser.evaluate(heat) == "0"
        page.browser.press("ArrowRight", times=3)
        assert page.browser.evaluate(heat) == "0.15"
        assert page.text(".slider output") == "15%"

    def test_video_timeline_frames_and_moments(self, page: Page, film: Path) -> None:
        page.judge(film)
        answer = page.live.judge(film.read_bytes(), "clip.mp4")
        (video,) = page.live.finish(answer)["result"]["videos"]
        assert page.text(".verdict-line .verdict") == WORDS[video["verdict"]]
        assert float(page.text(".score b")) == pytest.approx(video["score"], abs=2e-3)
        rows = page.texts(".legend tbody tr")
        assert [
            f"{track['score']:.3f}" in row for track, row in zip(video["tracks"], rows, strict=True)
        ]
        dots = "document.querySelectorAll('.timeline .dot').length"
        assert page.browser.evaluate(dots) == sum(len(t["frames"]) for t in video["tracks"])
        assert len(page.texts(".moment")) == len(video["moments"])

        shown = "document.querySelector('.frame-view img').src"
        page.browser.wait_for(f"{shown}.startsWith('blob:')")
        page.browser.evaluate("document.querySelector('.timeline').focus()")
        page.browser.press("Home")
        begin = f"0:{min(track['frames'][0]['seconds'] for track in video['tracks']):04.1f}"
        page.browser.wait_for(
            f"document.querySelector('figcaption').innerText.startsWith('{begin}')"
        )
        page.browser.wait_for("!document.querySelector('.loading')")
        first = page.browser.evaluate(shown)
        assert page.browser.evaluate("document.querySelectorAll('.frame-view .box').length") == 1
        page.browser.press("End")
        page.browser.wait_for(f"{shown} !== {first!r}")
        assert page.browser.evaluate("document.querySelectorAll('.frame-view .box').length") == 2
        now = "document.querySelector('.timeline').ariaValueText"
        assert page.browser.evaluate(now).startswith("0:01")
        page.browser.click(".moment:last-child")
        clock = page.text(".moment:last-child").split()[0]
        assert page.browser.evaluate(now).startswith(clock)
        page.browser.click(".timeline svg")  # its middle: half of the time
        assert re.match(r"0:0(0\.[89]|1\.[012])", page.browser.evaluate(now))

    def test_report_and_json_are_handed_over(self, page: Page) -> None:
        path = DEMO / "fake/collins-splice.jpg"
        page.browser.send(
            "Browser.grantPermissions",
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
            origin=page.live.url,
        )
        page.judge(path)
        page.browser.click(".actions .button")
        page.browser.wait_for("document.querySelector('.told')?.innerText === 'saved'")
        saved = page.browser.downloads / "collins-splice.jpg-report.html"
        page.browser.wait_for("new Promise((done) => setTimeout(done, 300, true))")
        assert hashlib.sha256(path.read_bytes()).hexdigest() in saved.read_text()
        page.browser.click(".actions .button:nth-last-of-type(2)")
        page.browser.wait_for("document.querySelector('.told')?.innerText === 'copied'")
        copied = json.loads(page.browser.evaluate("navigator.clipboard.readText()"))
        document = page.live.judge(path.read_bytes(), path.name).json()
        assert copied.keys() == document.keys()
        assert copied["predictions"][0]["sha256"] == document["predictions"][0]["sha256"]

    def test_errors_stand_beside_their_file_and_the_rest_goes_on(
        self, browser: Chromium, server: Live, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "cut.jpg").write_bytes((DEMO / "photo/hopper.jpg").read_bytes()[:2000])
        Image.new("RGB", (200, 150), (90, 120, 90)).save(tmp_path / "meadow.png")
        names = ("notes.txt", "cut.jpg", "meadow.png")
        with visit(browser, server, expected="415") as page:
            page.judge(*(tmp_path / name for name in names), DEMO / "real/collins.jpg")
            told = page.texts(".failure")
            assert len(told) == 3
            assert "either a picture nor a video" in told[0]
            assert "No face was found" in told[2]
            assert len(page.texts(".verdict-line")) == 1
            page.browser.click("#file-3 .failure .button")
            page.browser.wait_for("document.querySelectorAll('.verdict-line').length === 2")
            assert "taken as one face" in page.text("#file-3 figcaption")
            page.browser.click("#file-2 .actions .button")
            assert len(page.texts(".card")) == 3
            assert page.browser.evaluate("document.activeElement.id") == "file-3"

    def test_files_are_dropped_and_pasted(self, page: Page) -> None:
        coded = base64.b64encode((DEMO / "real/collins.jpg").read_bytes()).decode()
        page.browser.evaluate(
            f"window.given = new DataTransfer(); given.items.add(new File("
            f"[Uint8Array.from(atob('{coded}'), (c) => c.charCodeAt())], 'face.jpg'))"
        )
        page.browser.evaluate("dispatchEvent(new DragEvent('drop', {dataTransfer: given}))")
        page.browser.evaluate(
            "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: given}))"
        )
        page.browser.wait_for("document.querySelectorAll('.verdict-line').length === 2")
        assert page.texts(".score b")[0] == page.texts(".score b")[1]
        page.browser.evaluate(
            "dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))"
        )
        assert "no file" in page.text("#drop-hint")

    def test_times_sizes_and_shares_are_written_as_people_do(self, page: Page) -> None:
        written = page.browser.evaluate(
            "import('/page/words.js').then((w) => ["
            "w.clock(59.96), w.clock(3725.5, 0), w.clock(3.2), w.bytes(900),"
            "w.bytes(200 * 2 ** 20), w.percent(0.004), w.percent(0.09), w.percent(0),"
            "w.timeLeft(3), w.timeLeft(31), w.timeLeft(70),"
            "w.kindName('face_swap'), w.kindName('gan')])"
        )
        assert written == [
            "1:00.0", "1:02:06", "0:03.2", "900 B", "200 MB", "0.4%", "9%", "0%",
            "a few seconds left", "about 35 seconds left", "about 2 minutes left",
            "face swap", "GAN",
        ]  # fmt: skip

    def test_cancelling_makes_the_service_forget(self, page: Page, film: Path) -> None:
        page.give(film)
        page.browser.click(".progress .button")
        page.browser.wait_for("document.querySelector('.step')?.innerText.startsWith('Cancelled')")
        deadline = time.monotonic() + 20
        while page.live.service.jobs.count()["running"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert page.live.service.jobs.count()["running"] == 0

    def test_a_busy_service_is_asked_again(
        self, browser: Chromium, serve: Serve, judge: Predictor
    ) -> None:
        with (
            serve(Limits(queue=1), predictor=judge) as live,
            visit(browser, live, expected="429") as page,
        ):
            with live.service.admit():
                page.give(DEMO / "real/collins.jpg")
                page.browser.wait_for(
                    "document.querySelector('.step')?.innerText.includes('busy; trying again')"
                )
            page.browser.wait_for("document.querySelector('.verdict-line')")

    def test_the_key_is_asked_for_and_kept_in_memory_only(
        self, browser: Chromium, serve: Serve, judge: Predictor
    ) -> None:
        with serve(access=Access(key="secret"), predictor=judge) as live:
            browser.open("about:blank")
            browser.open(live.url + "/")
            for attempt in ("wrong", "secret"):
                browser.wait_for("document.querySelector('dialog').open")
                asked = "document.querySelector('#key-title').innerText"
                assert ("not the right" in browser.evaluate(asked)) == (attempt == "secret")
                for character in attempt:
                    browser.press(character)
                browser.press("Enter")
                browser.wait_for("!document.querySelector('dialog').open")
            browser.wait_for("document.querySelector('#model-facts').innerText.includes('Trained')")
            page = Page(browser, live)
            page.judge(DEMO / "real/collins.jpg")
            assert len(page.texts(".verdict-line")) == 1
            kept = "[document.cookie, localStorage.length, sessionStorage.length].join()"
            assert browser.evaluate(kept) == ",0,0"

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_is_readable_and_fits_a_phone(
        self, page: Page, group: Path, film: Path, scheme: str
    ) -> None:
        page.browser.prefer(prefers_color_scheme=scheme)
        page.browser.resize(360, 740, phone=True)
        assert page.browser.evaluate(CONTRASTS) == []
        page.judge(group, film)
        assert page.browser.evaluate(CONTRASTS) == []
        assert page.browser.evaluate("document.documentElement.scrollWidth") == 360
        small = (
            "[...document.querySelectorAll('button.button, .tab, label.button')].filter((e) => "
            "e.checkVisibility() && e.getBoundingClientRect().height < 40).map((e) => e.innerText)"
        )
        assert page.browser.evaluate(small) == []

    def test_everything_to_operate_has_a_name(self, page: Page, group: Path, film: Path) -> None:
        page.judge(group, film)
        nodes = page.browser.send("Accessibility.getFullAXTree")["nodes"]
        seen: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                role, name = _value(node, "role"), _value(node, "name")
                seen.setdefault(role, []).append(name)
        for role in ("button", "slider", "link", "image", "checkbox", "region", "navigation"):
            assert seen[role], role
            assert all(seen[role]), (role, seen[role])
        assert {"main", "banner", "contentinfo", "status"} <= seen.keys()


def _value(node: dict[str, Any], key: str) -> str:
    return str(node.get(key, {}).get("value", ""))
