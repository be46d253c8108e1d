"""A lock: one holder at a time, over processes, and none left by a killed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mfclip.runtime.lock import try_lock

HOLD = """
import pathlib, sys
from mfclip.runtime.lock import try_lock
with try_lock(pathlib.Path(sys.argv[1])) as is_mine:
    print(is_mine, flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with try_lock(path) as first, try_lock(path) as second, try_lock(path, wait=0.2) as third:
        assert (first, second, third) == (True, False, False)
    with try_lock(path) as again:
        assert again


def test_an_error_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), try_lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with try_lock(tmp_path / "lock") as is_mine:
        assert is_mine


def test_a_killed_process_leaves_none_behind(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with try_lock(path) as is_mine:
            assert not is_mine
        holder.kill()
        holder.wait(timeout=30)
    with try_lock(path, wait=5.0) as is_mine:
        assert is_mine
