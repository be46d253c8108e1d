"""The page of a live server in a browser, for tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.browser import wait_for
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

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
    if (!own || !e.checkVisibility() || e.closest('.visually-hidden, .skip, option, .marks, title')) continue;
    const style = getComputedStyle(e);
    const ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parse(ink).slice(0, 3)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) weak.push(`${e.tagName} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return weak;
})()
"""  # noqa: E501
"""Texts whose contrast to their ground is below 4.5 to 1 (WCAG 2.2, 1.4.3), as JavaScript."""

PATIENCE = 60.0
"""Seconds after which anything on the page counts as hung."""


@dataclass
class Page:
    """The page of one server in the browser."""

    tab: Tab
    live: Live

    def judge(self, *paths: Path) -> None:
        """Give files to the page and wait until nothing is under way."""
        self.give(*paths)
        self.wait_for("!document.title.startsWith('(')")

    def give(self, *paths: Path) -> None:
        self.tab.set_input_files("#files", list(paths))
        self.wait_for(f"document.querySelectorAll('.card').length >= {len(paths)}")

    def give_key(self, key: str) -> None:
        """Answer the open question for the API key."""
        self.tab.keyboard.type(key)
        self.tab.keyboard.press("Enter")

    def wait_for(self, expression: str) -> None:
        wait_for(self.tab, expression, PATIENCE)

    def evaluate(self, expression: str) -> Any:
        return self.tab.evaluate(expression)

    def text(self, selector: str) -> str:
        return self.tab.locator(selector).first.inner_text()

    def texts(self, selector: str) -> list[str]:
        return self.tab.locator(selector).all_inner_texts()


@contextmanager
def visit(browser: Browser, live: Live, expected: str = "", **context: Any) -> Iterator[Page]:
    """Open a server's page; afterwards no request has left it, and nobody has complained.

    Args:
        browser: opens a window for this visit only.
        live: the server.
        expected: pattern of complaints in the console that belong to the test.
        **context: of the window, as Playwright takes it; `locale` for instance.
    """
    window = browser.new_context(
        viewport={"width": 1280, "height": 860}, accept_downloads=True, **context
    )
    requests: list[str] = []
    complaints: list[str] = []
    try:
        tab = window.new_page()
        tab.set_default_timeout(1000 * PATIENCE)
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "console",
            lambda message: (
                complaints.append(message.text) if message.type in {"error", "warning"} else None
            ),
        )
        tab.goto(live.url + "/")
        yield Page(tab, live)
    finally:
        window.close()
    own = (live.url, "data:", f"blob:{live.url}")
    elsewhere = [url for url in requests if not url.startswith(own)]
    assert not elsewhere, elsewhere
    unexpected = [c for c in complaints if not (expected and re.search(expected, c))]
    assert not unexpected, unexpected
