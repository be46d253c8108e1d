"""Lines of progress where there is no terminal."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from mfclip.train.log import RunLog


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunLog:
    monkeypatch.setattr("mfclip.train.log.PLAIN_EVERY", 30.0)
    return RunLog(tmp_path, total=40, done=10, enabled=True)


def test_a_plain_line_comes_every_so_many_seconds(
    log: RunLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(log._began + 5.0, 2.5)  # read twice a step, which takes 5 seconds
    monkeypatch.setattr("mfclip.train.log.time", SimpleNamespace(monotonic=lambda: next(clock)))
    log.show("loss 0.5")
    for _ in range(30):
        log.advance()
    log.close()
    lines = capsys.readouterr().err.splitlines()
    steps = [int(line.split()[1]) for line in lines]
    assert steps == list(range(steps[0], 41, 6))  # every 30 seconds
    assert lines[0] == "step 16 of 40 (40%), 2 min left  loss 0.5"


def test_a_plain_line_is_not_broken(log: RunLog, capsys: pytest.CaptureFixture[str]) -> None:
    text = "[bold]" + " word" * 60
    log.say(text)
    log.close()
    assert capsys.readouterr().err == f"{text}\n"


def test_other_processes_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, total=4, done=0, enabled=False)
    log.advance()
    log.tell("word")
    log.close()
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []
