"""Files that are whole or absent, whoever else writes and whatever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import pytest

from mfclip.runtime.whole_file import (
    GRACE,
    partial_file,
    scratch_folder,
    sweep,
    write_bytes,
    write_output,
    write_whole,
)

WAIT = 60.0

WRITER = """
import sys, time
from pathlib import Path
from mfclip.runtime.whole_file import scratch_folder, write_whole

with write_whole(Path("out.json")) as file, scratch_folder(Path("out.xml")) as folder:
    file.write("half")
    file.flush()
    (folder / "inside").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def stop_after(file: TextIO, text: str) -> None:
    file.write(text)
    raise RuntimeError("stopped")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    with write_whole(path) as file:
        file.write("first")
        file.flush()
        assert not path.exists()
    with pytest.raises(RuntimeError, match="stopped"), write_whole(path) as file:
        stop_after(file, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real" / "out.json")
    with write_whole(link) as file:
        file.write("text")
    assert link.is_symlink()
    assert (tmp_path / "real" / "out.json").read_text() == "text"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs Linux, for named pipes")
def test_a_pipe_is_written_straight_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with write_whole(pipe) as file:
            file.write("text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_the_standard_output_gets_all_or_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with write_output(None) as file:
        file.write("whole")
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "whole"
    with pytest.raises(RuntimeError, match="stopped"), write_output(None) as file:
        stop_after(file, "half")
    assert capsys.readouterr().out == ""


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def make_old(folder: Path) -> None:
    past = time.time() - 2 * GRACE
    for path in folder.iterdir():
        os.utime(path, (past, past))


@pytest.fixture
def writer(tmp_path: Path):
    """A process that is in the middle of a file and a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()
            process.wait(WAIT)


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    left = hidden(tmp_path)
    assert {Path(name).suffix for name in left} == {".json", ".xml"}
    make_old(tmp_path)
    assert sweep(tmp_path) == []  # still being written, however old
    writer.kill()
    writer.wait(WAIT)
    (tmp_path / ".mine.mfclip-0123.json").write_text("no name of ours")
    (tmp_path / "out.json").write_text("older")
    assert {path.name for path in sweep(tmp_path)} == left
    assert {path.name for path in tmp_path.iterdir()} == {".mine.mfclip-0123.json", "out.json"}


def test_what_was_left_a_moment_ago_stays(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    writer.kill()
    writer.wait(WAIT)
    assert sweep(tmp_path) == []
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for path in [path for path in tmp_path.iterdir() if path.name.startswith(".")]:
        path.rename(inner / path.name)
    make_old(inner)
    assert sweep(tmp_path) == []
    assert len(sweep(tmp_path, recursive=True)) == 2
    assert sweep(tmp_path / "absent") == []


def test_writers_of_one_name_do_not_share_what_they_write(tmp_path: Path) -> None:
    """One name a process, as there once was, gave readers files that were cut short."""
    path, texts = tmp_path / "out.txt", [str(number) * 20_000 for number in range(4)]
    failed: list[str] = []

    def write(text: str) -> None:
        for _ in range(25):
            with write_whole(path) as file:
                file.write(text)

    write(texts[0])
    threads = [threading.Thread(target=write, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (found := path.read_text()) not in texts:
            failed.append(found[:10])
    for thread in threads:
        thread.join(WAIT)
    assert not failed
    assert [each.name for each in tmp_path.iterdir()] == ["out.txt"]


def test_bytes_and_files_opened_by_name(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a.bin", b"\r\n\xff")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"\r\n\xff"
    target = tmp_path / ("n" * 200 + ".tar")
    with partial_file(target) as partial:
        assert partial.suffix == ".tar"  # many writers choose the format by it
        assert partial.parent == target.parent
        partial.write_bytes(b"all")
        assert not target.exists()
    assert target.read_bytes() == b"all"


def test_a_scratch_folder_is_on_the_same_disk_and_goes(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "new" / "model.xml") as folder:
        (folder / "model.xml").write_text("whole")
        os.replace(folder / "model.xml", tmp_path / "new" / "model.xml")
        (folder / "more").write_text("rest")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.xml"]
