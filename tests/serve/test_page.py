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

import numpy as np
import pytest
from benchmarks.browser import find_chromium, start_chromium
from PIL import Image
from playwright.sync_api import Browser, Route

from films import encode
from mfclip.predict.predictor import Predictor
from mfclip.report.wording import LANGUAGES, Language, Words
from mfclip.serve.guard import Access
from mfclip.serve.limits import Limits
from serve.live import Live, Serve, run_server
from serve.visit import CONTRASTS, Page, visit

SERVE = Path(str(files("mfclip.serve")))
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
def browser() -> Iterator[Browser]:
    with start_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(judge: Predictor) -> Iterator[Live]:
    with run_server(judge, Limits(max_frames=12)) as live:
        yield live


@pytest.fixture
def page(browser: Browser, server: Live) -> Iterator[Page]:
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
    sources = {path.name: path.read_text() for path in (SERVE / "page").iterdir()}
    html = (SERVE / "index.html").read_text()
    assert not re.search(r"<script type=\"module\"[^>]*>[^<]|<style|\sstyle=|\son\w+=", html)
    for name, text in [*sources.items(), ("index.html", html)]:
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]+[^\s\"'`]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    named = set(re.findall(r'(?:href|src)="page/([\w.]+)"', html))
    named |= set(re.findall(r'from "\./([\w.]+)"', "".join(sources.values())))
    assert named == sources.keys() | {"base.css", "article.css"}


@pytest.mark.parametrize("accepted", ["de-DE,de;q=0.9", "zh-CN", "xx"])
def test_page_and_model_are_told_in_the_language_asked_for(live: Live, accepted: str) -> None:
    language = accepted[:2] if accepted[:2] in LANGUAGES else "en"
    words = Words(language)  # type: ignore[arg-type]
    asked = {"Accept-Language": accepted}
    answer = live.client.get("/", headers=asked)
    assert f'<html lang="{language}">' in answer.text
    assert words("page.drop") in answer.text
    assert answer.headers["vary"] == "Accept-Language"
    about = live.client.get("/v1/models/about", headers=asked)
    assert words("limits.title") in about.text
    for name in ("base.css", "article.css", "page.css", "page.js"):
        assert live.client.get(f"/page/{name}").status_code == 200
    for name in ("index.html", "report.py", "__init__.py"):
        assert live.client.get(f"/page/{name}").status_code == 404


class TestInBrowser:
    pytestmark = in_browser

    def test_verdict_scores_and_frames_are_the_predictors(
        self, page: Page, judge: Predictor
    ) -> None:
        paths = [DEMO / "photo/hopper.jpg", DEMO / "fake/hopper-splice.jpg"]
        page.judge(*paths)
        for number, found in enumerate(judge.predict(paths), start=1):
            assert page.text(f"#file-{number} .verdict-line .verdict") == WORDS[found.verdict]
            assert float(page.text(f"#file-{number} .score b")) == pytest.approx(
                found.score, abs=2e-3
            )
            frame = page.tab.locator(f"#file-{number} .whole .frame").first
            sides = [int(str(frame.get_attribute(side))) for side in ("x", "y", "width", "height")]
            face = found.face
            assert sides == [face.left, face.top, face.width, face.height]
        assert len(page.texts(".overview li")) == 2
        bands = judge.bands
        assert f"{bands.real_below:.3f}" in page.text("#reading")
        assert str(judge.card.limits)[1:40] in page.text("#limits")

    def test_the_page_shows_the_article_of_the_report(self, page: Page) -> None:
        path = DEMO / "fake/hopper-splice.jpg"
        page.judge(path)
        answer = page.live.judge(path.read_bytes(), path.name, async_=True)
        job = page.live.finish(answer)
        report = page.live.client.get(job["links"]["report"]).text
        article = report[report.index("<article") : report.index("</article>")]
        told = re.sub(r"<[^>]*>", " ", article)
        for selector in (".meaning li", "figcaption b", ".rows dd", ".kinds summary"):
            for text in page.texts(f".card {selector}"):
                assert text in told, (selector, text)

    def test_pictures_of_the_evidence_are_shown(self, page: Page) -> None:
        page.judge(DEMO / "real/collins.jpg")
        loaded = page.evaluate(
            "Promise.all([...document.querySelectorAll('.card img')]"
            ".map((e) => e.decode().then(() => [e.closest('figure').className.split(' ')[1],"
            " e.naturalWidth])))"
        )
        assert [role for role, _ in loaded] == ["picture", "seen", "heat", "heat", "patch", "noise"]
        assert [width for _, width in loaded][:4] == [256, 224, 224, 224]
        assert loaded[4][1] == loaded[5][1] < 224

    def test_choosing_a_face_shows_its_evidence(
        self, page: Page, judge: Predictor, group: Path
    ) -> None:
        page.judge(group)
        faces = judge.predict(group)
        assert len(faces) == 2
        suspect = int(np.argmax([face.score for face in faces]))
        for chosen in (suspect, 1 - suspect):
            if chosen != suspect:
                page.tab.locator(".whole a.mark").nth(chosen).click()
            assert page.texts(".card h4:visible") == [f"Face {chosen + 1} of 2"]
            shown = page.tab.locator(".card .score b:visible")
            assert shown.count() == 1
            assert float(shown.inner_text()) == pytest.approx(faces[chosen].score, abs=2e-3)
            marks = page.evaluate(
                "[...document.querySelectorAll('.whole a.mark')].map((e) => e.ariaCurrent)"
            )
            assert marks[chosen] == "true"
        page.tab.locator(".tab").nth(suspect).focus()
        page.tab.keyboard.press("Enter")
        assert page.texts(".card h4:visible") == [f"Face {suspect + 1} of 2"]

    def test_heat_slider_moves_by_keyboard(self, page: Page) -> None:
        page.judge(DEMO / "fake/hopper-splice.jpg")
        page.tab.locator("input[type=range]").focus()
        heat = "getComputedStyle(document.querySelector('.heat img:not(.below)')).opacity"
        assert page.evaluate(heat) == "1"
        page.tab.keyboard.press("Home")
        assert page.evaluate(heat) == "0"
        for _ in range(3):
            page.tab.keyboard.press("ArrowRight")
        assert page.evaluate(heat) == "0.15"
        assert page.text(".slider output") == "15%"

    def test_kinds_are_named_closed_and_only_where_they_beat_a_guess(self, page: Page) -> None:
        page.judge(DEMO / "fake/hopper-splice.jpg")
        assert page.evaluate("document.querySelector('.kinds').open") is False
        assert page.evaluate("[...document.querySelectorAll('.kinds dt')].map((e) => e.innerText)")
        assert "0.6%" not in page.text("#limits")

    def test_video_timeline_frames_and_moments(self, page: Page, film: Path) -> None:
        page.judge(film)
        answer = page.live.judge(film.read_bytes(), "clip.mp4")
        (video,) = page.live.finish(answer)["result"]["videos"]
        assert page.text(".verdict-line .verdict") == WORDS[video["verdict"]]
        assert float(page.text(".score b")) == pytest.approx(video["score"], abs=2e-3)
        scores = sorted(re.findall(r"0\.\d{3}(?= ±)", page.text(".tracks tbody")))
        assert scores == sorted(f"{track['score']:.3f}" for track in video["tracks"])
        dots = page.tab.locator(".timeline .dot").count()
        assert dots == sum(len(t["frames"]) for t in video["tracks"])
        assert len(page.texts(".moment")) == len(video["moments"])

        shown = "document.querySelector('.frame-view img').src"
        page.wait_for(f"{shown}.startsWith('blob:')")
        page.tab.locator(".timeline").focus()
        page.tab.keyboard.press("Home")
        begin = f"0:{min(track['frames'][0]['seconds'] for track in video['tracks']):04.1f}"
        caption = "document.querySelector('.frame-view figcaption').innerText"
        page.wait_for(f"{caption}.startsWith('{begin}')")
        page.wait_for("!document.querySelector('.loading')")
        first = page.evaluate(shown)
        assert page.tab.locator(".frame-view .frame").count() == 1
        page.tab.keyboard.press("End")
        page.wait_for(f"{shown} !== {first!r}")
        page.wait_for("document.querySelectorAll('.frame-view .frame').length === 2")
        now = "document.querySelector('.timeline').ariaValueText"
        assert page.evaluate(now).startswith("0:01")
        page.tab.locator(".moment").last.click()
        clock = re.search(r"0:\d\d\.\d", page.texts(".moment")[-1])
        assert clock is not None
        assert page.evaluate(now).startswith(clock[0])
        page.tab.locator(".timeline").click()  # its middle: half of the time
        assert re.match(r"0:0(0\.[89]|1\.[012])", page.evaluate(now))

    def test_report_and_json_are_handed_over(self, page: Page) -> None:
        path = DEMO / "fake/collins-splice.jpg"
        page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.judge(path)
        with page.tab.expect_download() as download:
            page.tab.locator(".actions .button").first.click()
        assert download.value.suggested_filename == "collins-splice.jpg-report.html"
        saved = download.value.path().read_text()
        assert hashlib.sha256(path.read_bytes()).hexdigest() in saved
        page.tab.locator(".actions .button").nth(1).click()
        page.wait_for("document.querySelector('.told')?.innerText === 'copied'")
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        document = page.live.judge(path.read_bytes(), path.name).json()
        assert copied.keys() == document.keys()
        assert copied["predictions"][0]["sha256"] == document["predictions"][0]["sha256"]

    def test_errors_stand_beside_their_file_and_the_rest_goes_on(
        self, browser: Browser, server: Live, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "cut.jpg").write_bytes((DEMO / "photo/hopper.jpg").read_bytes()[:2000])
        Image.new("RGB", (200, 150), (90, 120, 90)).save(tmp_path / "meadow.png")
        names = ("notes.txt", "cut.jpg", "meadow.png")
        with visit(browser, server, expected="415") as page:
            page.judge(*(tmp_path / name for name in names), DEMO / "real/collins.jpg")
            told = page.texts(".failure")
            assert len(told) == 3
            assert "neither a picture nor a video" in told[0]
            assert "No face was found" in told[2]
            # the same file would fail again, so nothing offers to try
            assert [len(page.texts(f"#file-{n} .failure .button")) for n in (1, 2, 3)] == [0, 0, 1]
            assert "whole=true" not in "".join(told)
            assert len(page.texts(".verdict-line")) == 1
            page.tab.locator("#file-3 .failure .button").click()
            page.wait_for("document.querySelectorAll('.verdict-line').length === 2")
            assert "taken as one face" in page.text("#file-3 figcaption")
            page.tab.locator("#file-2 .actions .button").click()
            assert len(page.texts(".card")) == 3
            assert page.evaluate("document.activeElement.id") == "file-3"

    def test_a_video_without_a_face_offers_no_second_try(self, page: Page, tmp_path: Path) -> None:
        empty = encode(tmp_path / "wall.mp4", [np.full((144, 256, 3), 90, np.uint8)] * 5)
        page.judge(empty)
        assert "No face was found" in page.text(".failure")
        assert page.texts(".failure .button") == []
        assert "--frames" not in page.text(".failure")

    def test_a_service_that_went_away_may_be_asked_again(
        self, browser: Browser, serve: Serve, judge: Predictor
    ) -> None:
        with (
            serve(predictor=judge) as live,
            visit(browser, live, expected="ERR_FAILED|Failed to load") as page,
        ):
            page.tab.route("**/v1/predictions", lambda route: route.abort())
            page.judge(DEMO / "real/collins.jpg")
            assert "could not be sent" in page.text(".failure")
            page.tab.unroute("**/v1/predictions")
            page.tab.locator(".failure .button").click()
            page.wait_for("document.querySelector('.verdict-line')")

    def test_files_are_dropped_and_pasted(self, page: Page) -> None:
        coded = base64.b64encode((DEMO / "real/collins.jpg").read_bytes()).decode()
        page.evaluate(
            f"window.given = new DataTransfer(); given.items.add(new File("
            f"[Uint8Array.from(atob('{coded}'), (c) => c.charCodeAt())], 'face.jpg'))"
        )
        page.evaluate("dispatchEvent(new DragEvent('drop', {dataTransfer: given}))")
        page.evaluate("document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: given}))")
        page.wait_for("document.querySelectorAll('.verdict-line').length === 2")
        assert page.texts(".score b")[0] == page.texts(".score b")[1]
        anchors = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(anchors) == len(set(anchors))
        page.evaluate("dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))")
        assert "not a file" in page.text("#drop-hint")

    def test_times_and_sizes_are_written_as_people_do(self, page: Page) -> None:
        written = page.evaluate(
            "import('/page/words.js').then((w) => ["
            "w.clock(59.96), w.clock(3725.5, 0), w.clock(3.2), w.bytes(900),"
            "w.bytes(200 * 2 ** 20), w.percent(0.09), w.percent(0),"
            "w.timeLeft(3), w.timeLeft(31), w.timeLeft(70)])"
        )
        assert written == [
            "1:00.0", "1:02:06", "0:03.2", "900 B", "200 MB", "9%", "0%",
            "a few seconds left", "about 35 seconds left", "about 2 minutes left",
        ]  # fmt: skip

    def test_cancelling_makes_the_service_forget(self, page: Page, film: Path) -> None:
        page.give(film)
        page.tab.locator(".progress .button").click()
        page.wait_for("document.querySelector('.step')?.innerText.startsWith('Cancelled')")
        deadline = time.monotonic() + 20
        while page.live.service.jobs.count()["running"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert page.live.service.jobs.count()["running"] == 0

    def test_a_busy_service_is_asked_again(
        self, browser: Browser, serve: Serve, judge: Predictor
    ) -> None:
        with (
            serve(Limits(queue=1), predictor=judge) as live,
            visit(browser, live, expected="429") as page,
        ):
            with live.service.admit():
                page.give(DEMO / "real/collins.jpg")
                page.wait_for(
                    "document.querySelector('.step')?.innerText.includes('busy; trying again')"
                )
            page.wait_for("document.querySelector('.verdict-line')")

    def test_the_key_is_asked_for_and_kept_in_memory_only(
        self, browser: Browser, serve: Serve, judge: Predictor
    ) -> None:
        with (
            serve(access=Access(key="secret"), predictor=judge) as live,
            visit(browser, live, expected="401") as page,
        ):
            page.wait_for("document.querySelector('dialog').open")
            assert "not the right" not in page.text("#key-title")
            page.give_key("wrong")
            page.wait_for(
                "document.querySelector('dialog').open"
                " && document.querySelector('#key-title').innerText.includes('not the right')"
            )
            page.give_key("secret")
            page.wait_for("!document.querySelector('dialog').open")
            page.wait_for("document.querySelector('#limits')?.innerText.includes('Trained')")
            page.judge(DEMO / "real/collins.jpg")
            assert len(page.texts(".verdict-line")) == 1
            kept = "[document.cookie, localStorage.length, sessionStorage.length].join()"
            assert page.evaluate(kept) == ",0,0"

    def test_a_late_refusal_of_an_earlier_key_is_no_new_question(
        self, browser: Browser, serve: Serve, judge: Predictor
    ) -> None:
        held: list[Route] = []

        def hold_the_first(route: Route) -> None:
            with_wrong = route.request.headers.get("authorization") == "Bearer wrong"
            if with_wrong and not held:
                held.append(route)
            else:
                route.continue_()

        with (
            serve(access=Access(key="secret"), predictor=judge) as live,
            visit(browser, live, expected="401") as page,
        ):
            page.wait_for("document.querySelector('dialog').open")
            page.tab.keyboard.press("Escape")
            page.tab.route("**/v1/predictions", hold_the_first)
            page.give(DEMO / "real/collins.jpg", DEMO / "fake/hopper-splice.jpg")
            page.wait_for("document.querySelector('dialog').open")
            page.give_key("wrong")
            page.wait_for(
                "document.querySelector('dialog').open"
                " && document.querySelector('#key-title').innerText.includes('not the right')"
            )
            assert len(held) == 1
            page.give_key("secret")
            page.wait_for("document.querySelectorAll('.verdict-line').length === 1")
            held[0].continue_()
            page.wait_for("document.querySelectorAll('.verdict-line').length === 2")

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_page_article_and_report_speak_the_language_of_the_browser(
        self, browser: Browser, server: Live, language: Language
    ) -> None:
        words = Words(language)
        with visit(browser, server, locale=language) as page:
            assert page.evaluate("document.documentElement.lang") == language
            assert page.text("h1") == words("page.title")
            page.judge(DEMO / "fake/hopper-splice.jpg")
            page.wait_for("document.querySelector('#limits')")
            assert page.text("#limits h2") == words("limits.title")
            assert page.text(".verdict-line .verdict") == words("verdict.fake")
            assert words("view.seen") in page.texts(".card figcaption b")
            buttons = page.texts(".actions .button")
            assert buttons == [words("card.report"), words("card.json"), words("card.remove")]
            said = page.evaluate("document.querySelector('#announce').textContent")
            assert words("verdict.fake") in said
            told = page.evaluate("document.body.innerText")
            assert not re.search(r"\{\w+\}|undefined|\[object", told)
            with page.tab.expect_download() as download:
                page.tab.locator(".actions .button").first.click()
            assert f'<html lang="{language}">' in download.value.path().read_text()

    @pytest.mark.parametrize(("scheme", "locale"), [("light", "en"), ("dark", "de")])
    def test_text_is_readable_and_fits_a_phone(
        self, browser: Browser, server: Live, group: Path, film: Path, scheme: str, locale: str
    ) -> None:
        phone = {"color_scheme": scheme, "locale": locale, "has_touch": True, "is_mobile": True}
        with visit(browser, server, **phone) as page:
            page.tab.set_viewport_size({"width": 360, "height": 740})
            page.wait_for("document.querySelector('#limits')")
            assert page.evaluate(CONTRASTS) == []
            page.judge(group, film)
            page.wait_for("!document.querySelector('.loading')")
            assert page.evaluate(CONTRASTS) == []
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            small = (
                "[...document.querySelectorAll('button.button, .tab, label.button')].filter((e) =>"
                " e.checkVisibility() && e.getBoundingClientRect().height < 40)"
                ".map((e) => e.innerText)"
            )
            assert page.evaluate(small) == []

    def test_everything_to_operate_has_a_name(self, page: Page, group: Path, film: Path) -> None:
        page.judge(group, film)
        devtools = page.tab.context.new_cdp_session(page.tab)
        nodes = devtools.send("Accessibility.getFullAXTree")["nodes"]
        seen: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                role, name = (str(node.get(key, {}).get("value", "")) for key in ("role", "name"))
                seen.setdefault(role, []).append(name)
        for role in ("button", "slider", "link", "image", "checkbox", "region", "navigation"):
            assert seen[role], role
            assert all(seen[role]), (role, seen[role])
        assert {"main", "banner", "contentinfo", "status", "article"} <= seen.keys()
