"""A headless Chromium of this machine, driven by Playwright; for tests and for screenshots.

Playwright brings browsers of its own, of some hundred megabytes; the system's is taken instead.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from time import monotonic, sleep

from playwright.sync_api import Browser, Page, sync_playwright


def find_chromium() -> str | None:
    """Return the path of the Chromium or Chrome on this machine; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start a browser, and end it.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    executable = find_chromium()
    if executable is None:
        raise FileNotFoundError("expected chromium on the path; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


def wait_for(page: Page, expression: str, timeout: float = 30.0) -> None:
    """Wait until a JavaScript expression is true.

    Playwright's own `wait_for_function` builds a function from text in the page, which the page's
    Content-Security-Policy forbids.

    Raises:
        TimeoutError: it is not within `timeout` seconds.
    """
    deadline = monotonic() + timeout
    while not page.evaluate(expression):
        if monotonic() > deadline:
            raise TimeoutError(f"not true within {timeout} s: {expression}")
        sleep(0.02)
