"""Bars on a terminal that is a text buffer."""

from __future__ import annotations

import io
import sys

import pytest

from mfclip.cli.progress import Bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_bars_are_for_terminals_only(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    with Bars() as bars:
        for done in range(1, 4):
            bars.tell("film[1].mp4", done, 4)
        bars.tell("film[1].mp4", 4, 4)
        assert list(bars.count(iter("abc"), "judging", 3)) == ["a", "b", "c"]
    assert bars.visible == stream.isatty()
    written = stream.getvalue()
    assert ("film[1].mp4" in written and "time left" in written) == stream.isatty()
    assert stream.isatty() or not written
