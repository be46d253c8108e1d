"""Signals end work where it may end, and the user is told how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.cli.interrupt import Interrupts, tell_how_to_go_on
from mfclip.train import loop


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_whole_step_ends_before_the_signal_counts(number: signal.Signals, status: int) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    steps = []

    def step() -> None:
        with interrupts.whole():
            signal.raise_signal(number)
            steps.append("to its end")

    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            step()
        assert interrupts.status == status
        with pytest.raises(KeyboardInterrupt):  # at once outside of such a step
            signal.raise_signal(number)
    assert steps == ["to its end"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_who_asks_twice_is_not_kept_waiting() -> None:
    seen = []

    def step() -> None:
        with interrupts.whole():
            for number in range(3):
                seen.append(number)
                signal.raise_signal(signal.SIGINT)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        step()
    assert seen == [0, 1]


def test_the_advice_is_asked_for_when_it_is_needed() -> None:
    command = typer.Typer()

    @command.command()
    def work() -> None:
        with tell_how_to_go_on(lambda: "give it again"):
            signal.raise_signal(signal.SIGTERM)

    done = CliRunner().invoke(command, [])
    assert done.exit_code == 143
    assert done.stderr == "interrupted; give it again\n"


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_an_interrupted_training_says_how_to_go_on(
    has_checkpoint: bool, made_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(config: Any, out: Path, **_: Any) -> None:
        seen["manifest"] = config.data.manifest
        if has_checkpoint:
            (out / loop.LAST).touch()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "train", train)
    out = tmp_path / "run"
    done = CliRunner().invoke(app, ["train", "--manifest", str(made_faces), "-o", str(out)])
    assert done.exit_code == 130
    assert seen["manifest"] == made_faces
    told = "the same command with --resume goes on from the last checkpoint in"
    assert (told in done.stderr) == has_checkpoint
    assert ("there is no checkpoint yet" in done.stderr) != has_checkpoint


@pytest.mark.slow
def test_a_terminated_command_leaves_nothing_half_written(tmp_path: Path) -> None:
    """By Python's own answer to SIGTERM no `finally` is reached."""
    code = (
        "import time; from pathlib import Path; import typer; from mfclip.cli import app as a\n"
        "from mfclip.runtime.whole_file import write_whole\n"
        "@a.app.command()\n"
        "def wait():\n"
        "    with write_whole(Path('out.json')):\n"
        "        print('writing', flush=True); time.sleep(600)\n"
        "a.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "wait"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            assert len(os.listdir(tmp_path)) == 1
            process.terminate()
            assert process.wait(60) == 143
        finally:
            process.kill()
    assert os.listdir(tmp_path) == []
