"""A headless Chromium, driven over a pipe through its DevTools protocol; needs no package.

What a test or a screenshot asks of a browser and no more: open, look, click, type, choose files,
and a record of every request and every complaint in the console.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35,
    "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
"""Windows virtual key codes, which the protocol wants beside the names."""

COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


def find_chromium() -> str | None:
    """Return the path of the Chromium or Chrome on this machine; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def start_chromium() -> Iterator[Chromium]:
    """Start a browser with an empty profile, and end it.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    executable = find_chromium()
    if executable is None:
        raise FileNotFoundError("expected chromium on the path; on Debian: apt install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Chromium(executable, Path(folder))
        try:
            yield browser
        finally:
            browser.close()


class Chromium:
    """One browser with one tab.

    Attributes:
        requests: address of every request that the tab made.
        complaints: errors and warnings in the console, and exceptions that nobody caught.
        downloads: folder where saved files land.
    """

    def __init__(self, executable: str, folder: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self._buffer, self._number, self._session = b"", 0, ""
        self._process = self._start(executable, folder)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def send(self, method: str, *, timeout: float = 30.0, **parameters: Any) -> dict[str, Any]:
        """Give one command of the protocol and return its result.

        Raises:
            RuntimeError: the browser refused.
            TimeoutError: no answer within `timeout` seconds.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = self._receive(deadline - time.monotonic())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
        raise TimeoutError(f"{method}: no answer within {timeout} s")

    def open(self, url: str) -> None:
        """Open an address and wait until the page and its modules have run."""
        self.send("Page.navigate", url=url)
        self.wait_for(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for.

        Raises:
            RuntimeError: it threw.
        """
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout: float = 30.0) -> None:
        """Wait until the expression is true; a promise is waited for.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.evaluate(f"Promise.resolve({expression}).then(Boolean)"):
                return
            time.sleep(0.05)
        shown = self.evaluate("document.body.innerText")
        raise TimeoutError(f"not true within {timeout} s: {expression}\nshown:\n{shown}")

    def click(self, selector: str) -> None:
        """Scroll to the first element that fits and click into its middle with the mouse."""
        self.wait_for(f"document.querySelector({selector!r})")
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const r = e.getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key of `KEYS`, or type one character, at whatever has the focus."""
        named = {
            "key": key,
            "code": {" ": "Space"}.get(key, key),
            "windowsVirtualKeyCode": KEYS.get(key, 0),
        }
        text = {"Enter": "\r", " ": " "}.get(key, "" if key in KEYS else key)
        for _ in range(times):
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
            self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def choose_files(self, selector: str, paths: Sequence[Path]) -> None:
        """Put files into an `<input type=file>`, as a person does in the dialogue."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(p.resolve()) for p in paths])

    def resize(self, width: int, height: int, *, scale: float = 1, phone: bool = False) -> None:
        """Set the window's size, CSS pixels, and the screen's pixels for each."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=phone,
        )  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, media: str = "", **features: str) -> None:
        """Set CSS media (``print``) and features such as ``prefers_color_scheme="dark"``."""
        wanted = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.send("Emulation.setEmulatedMedia", media=media, features=wanted)

    def screenshot(self, *, whole_page: bool = False) -> bytes:
        """Return a PNG of the window, or of the page from top to bottom."""
        area: dict[str, Any] = {}
        if whole_page:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            area = {
                "captureBeyondViewport": True,
                "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"],
                         "scale": 1},
            }  # fmt: skip
        return base64.b64decode(self.send("Page.captureScreenshot", format="png", **area)["data"])

    def close(self) -> None:
        """End the browser and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._in)
        os.close(self._out)

    def _start(self, executable: str, folder: Path) -> int:
        """Start the browser with its ends of two pipes as descriptors 3 and 4."""
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        reading, writing = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (theirs_in, theirs_out)
        )
        arguments = [
            executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank",
        ]  # fmt: skip
        quiet = os.open(os.devnull, os.O_WRONLY)
        actions = [
            (os.POSIX_SPAWN_DUP2, reading, 3), (os.POSIX_SPAWN_DUP2, writing, 4),
            (os.POSIX_SPAWN_DUP2, quiet, 2),
        ]  # fmt: skip
        process = os.posix_spawn(
            executable, arguments, os.environ, file_actions=actions, setpgroup=0
        )
        for end in (theirs_in, theirs_out, reading, writing, quiet):
            os.close(end)
        self._in, self._out = ours_in, ours_out
        return process

    def _receive(self, timeout: float) -> dict[str, Any]:
        """Return the next message, noting what it says of requests and complaints; {} if none."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(timeout, 0))
            if not ready:
                return {}
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended by itself")
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event in COMPLAINTS:
            kind = facts.get("type") or facts.get("entry", {}).get("level") or "exception"
            if kind not in {"info", "log", "verbose", "debug"}:
                self.complaints.append(json.dumps(facts))
