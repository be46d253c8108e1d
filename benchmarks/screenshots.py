"""Make the documentation's pictures of pages again: python benchmarks/screenshots.py.

Starts ``mfclip serve`` on a free port, gives its page the demo pictures that come with the package
and a short video made of them, and photographs it in a headless Chromium. Then judges the same
files with ``mfclip predict``, photographs the report, and keeps the JSON. At last it photographs
the report of an experiment.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import av
import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from browser import start_chromium, wait_for

DEMO = Path(str(files("mfclip").joinpath("assets/demo")))
LARGEST = 330_000
"""Bytes of a picture, at most."""

EXPERIMENT = Path("benchmarks/results/findings/components/report.html")
"""A report of ``mfclip experiment``."""

JUDGED = {"real": "photo/hopper.jpg", "forged": "fake/hopper-splice.jpg", "video": "clip.mp4"}
"""What ``mfclip predict`` is given, by name of the JSON that is kept."""

DITHERED, PLAIN = Image.Dither.FLOYDSTEINBERG, Image.Dither.NONE

FLAT = 48
"""Colours of a picture that stay exactly as they are."""

FORGED, ALONE = range(35, 70), 20
"""Frames in which the first face is forged; frames before the second face comes."""

DESKTOP, PHONE = (1280, 800), (375, 780)


@dataclass(frozen=True)
class Shot:
    """One picture: what is given to the page, and how it is looked at."""

    name: str
    given: tuple[str, ...]
    size: tuple[int, int] = DESKTOP
    scheme: str = "light"
    height: int = 2600
    locale: str = "en"


SHOTS = (
    Shot("empty", ()),
    Shot("empty-phone-dark", (), PHONE, "dark"),
    Shot("real", ("photo/hopper.jpg",)),
    Shot("real-phone", ("photo/hopper.jpg",), PHONE),
    Shot("forged", ("fake/hopper-splice.jpg",)),
    Shot("forged-zh", ("fake/hopper-splice.jpg",), locale="zh"),
    Shot("forged-phone-de", ("fake/hopper-splice.jpg",), PHONE, locale="de"),
    Shot("forged-dark", ("fake/hopper-splice.jpg",), scheme="dark"),
    Shot("forged-phone-dark", ("fake/hopper-splice.jpg",), PHONE, "dark"),
    Shot("video", ("clip.mp4",)),
    Shot("video-phone-dark", ("clip.mp4",), PHONE, "dark"),
    Shot(
        "several",
        ("real/collins.jpg", "fake/hopper-splice.jpg", "clip.mp4", "notes.txt"),
        height=960,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/page"), help="folder")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, start_chromium() as browser:
        folder = Path(name)
        (folder / "notes.txt").write_text("no picture")
        film(folder / "clip.mp4")
        with serve() as url:
            for shot in SHOTS:
                write(take(browser, url, shot, folder), out / f"{shot.name}.png")
        judge(folder, out)
        write(photograph(browser, folder / "report.html", 2600), out / "report.png")
        if EXPERIMENT.is_file():
            write(photograph(browser, EXPERIMENT.resolve(), 1600), out / "experiment-report.png")


def judge(folder: Path, out: Path) -> None:
    """Judge the files of `JUDGED` from the command line: a JSON each, and one report."""
    program = str(Path(sys.executable).with_name("mfclip"))
    for place in JUDGED.values():
        if (DEMO / place).is_file():
            shutil.copyfile(DEMO / place, folder / Path(place).name)
    names = [Path(place).name for place in JUDGED.values()]
    for name, file in zip(JUDGED, names, strict=True):
        command = [program, "predict", file, "--json", f"{name}.json"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        shutil.copyfile(folder / f"{name}.json", out / f"{name}.json")
    command = [program, "predict", *names, "--report", "report.html"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def photograph(browser: Browser, page: Path, height: int) -> Image.Image:
    """Photograph a page on disk from its top down to `height`."""
    with look(browser, Shot("", ())) as tab:
        tab.goto(page.as_uri())
        picture = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
    return picture.crop((0, 0, picture.width, min(picture.height, height)))


@contextlib.contextmanager
def look(browser: Browser, shot: Shot) -> Iterator[Page]:
    """Open a window as a picture wants it."""
    width, height = shot.size
    window = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if shot.scheme == "dark" else "light",
        reduced_motion="reduce",
        locale=shot.locale,
        is_mobile=shot.size == PHONE,
        has_touch=shot.size == PHONE,
    )
    try:
        yield window.new_page()
    finally:
        window.close()


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """Run the service on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("mfclip")), "serve", "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/v1/health").raise_for_status()
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def film(path: Path) -> None:
    """Write four seconds of two portraits; in the middle one of them is a forgery."""
    real, forged, other = (
        Image.open(DEMO / name).convert("RGB")
        for name in ("real/hopper.jpg", "fake/hopper-splice.jpg", "real/collins.jpg")
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(100):
            frame = Image.new("RGB", (640, 360), (72, 82, 96))
            frame.paste(forged if number in FORGED else real, (30 + number // 3, 52))
            if number >= ALONE:
                frame.paste(other, (354 - number // 5, 52))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame))))
        container.mux(stream.encode())


def take(browser: Browser, url: str, shot: Shot, folder: Path) -> Image.Image:
    """Photograph the page from its top to the end of the results."""
    with look(browser, shot) as tab:
        tab.goto(url + "/")
        tab.locator("#limits").wait_for()
        if shot.given:
            places = [place if (place := folder / name).exists() else DEMO / name
                      for name in shot.given]  # fmt: skip
            tab.set_input_files("#files", places)
            tab.locator(".card").nth(len(places) - 1).wait_for()
            wait_for(tab, "!document.title.startsWith('(')", timeout=120)
            wait_for(tab, "!document.querySelector('.loading')")
        tab.evaluate("Promise.all([...document.images].map((e) => e.decode().catch(() => 0)))")
        picture = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
        end = tab.evaluate(
            "document.querySelector('#results').hidden ? document.body.scrollHeight"
            " : document.querySelector('#results').getBoundingClientRect().bottom + scrollY"
        )
    height = min(picture.height, round(end) + 8, shot.height)
    return picture.crop((0, 0, picture.width, height))


def write(picture: Image.Image, path: Path) -> None:
    """Write a PNG, as near to the picture as its size allows, and say so."""
    for colours, dither in ((256, DITHERED), (256, PLAIN), (128, PLAIN)):
        small = picture.quantize(palette=_palette(picture, colours), dither=dither)
        small.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    size = path.stat().st_size
    print(f"{path.stem}: {picture.width} x {picture.height} pixels, {size / 1000:.0f} kB")


def _palette(picture: Image.Image, colours: int) -> Image.Image:
    """Keep the most frequent colours, which are those of the page, and share out the others."""
    frequent = sorted(picture.getcolors(picture.width * picture.height), reverse=True)
    kept = [value for _, colour in frequent[:FLAT] for value in colour]
    rest = picture.quantize(colours - FLAT).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette(kept + rest[: 3 * (colours - FLAT)])
    return palette


if __name__ == "__main__":
    main()
