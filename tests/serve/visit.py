"""The page of a live server in a browser, for tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chromium import Chromium

from serve.live import Live

CONTRASTS = """
(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => {
    const [r, g, b] = c.map((v) => v / 255)
      .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.closest('.visually-hidden, .skip, option')) continue;
    const style = getComputedStyle(e);
    const ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parse(ink).slice(0, 3)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) weak.push(`${e.tagName} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return weak;
})()
"""
"""Texts whose contrast to their ground is below 4.5 to 1 (WCAG 2.2, 1.4.3), as JavaScript."""


@dataclass
class Page:
    """The page of one server in the browser."""

    browser: Chromium
    live: Live

    def judge(self, *paths: Path) -> None:
        """Give files to the page and wait until nothing is under way."""
        self.give(*paths)
        self.browser.wait_for("!document.title.startsWith('(')", timeout=60)

    def give(self, *paths: Path) -> None:
        self.browser.choose_files("#files", paths)
        self.browser.wait_for(f"document.querySelectorAll('.card').length >= {len(paths)}")

    def text(self, selector: str) -> str:
        text: str = self.browser.evaluate(f"document.querySelector({selector!r}).innerText")
        return text

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.browser.evaluate(
            f"[...document.querySelectorAll({selector!r})].map((e) => e.innerText)"
        )
        return found


@contextmanager
def visit(browser: Chromium, live: Live, expected: str = "") -> Iterator[Page]:
    """Open a server's page; afterwards no request has left it, and nobody has complained.

    Args:
        browser: one tab, used again and again.
        live: the server.
        expected: pattern of complaints in the console that belong to the test.
    """
    browser.resize(1280, 860)
    browser.prefer()
    browser.open("about:blank")
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(live.url + "/")
    browser.wait_for("!document.querySelector('#model-facts').innerText.includes('Asking')")
    yield Page(browser, live)
    own = (live.url, "data:", f"blob:{live.url}")
    assert not [url for url in browser.requests if not url.startswith(own)]
    strange = [c for c in browser.complaints if not (expected and re.search(expected, c))]
    assert not strange
