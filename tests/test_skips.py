"""A test that skips without being allowed to fails the run, and so does one that never ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import threading

import pytest

def test_allowed():
    pytest.skip("not glibc")

def test_refused():
    pytest.skip("no time")

@pytest.mark.skip(reason="never")
def test_refused_before_it_begins():
    pass

@pytest.mark.xfail(strict=True)
def test_known_fault():
    assert False

@pytest.mark.timeout(1)
def test_waits_for_what_never_comes():
    threading.Event().wait()
"""


def test_only_listed_skips_pass(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_whole_file.py").write_text(
        'import pytest\npytest.importorskip("no_such_package")\n'
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 failed, 1 skipped, 1 xfailed, 2 errors" in done.stdout
    assert "unexpected skip: no time" in done.stdout
    assert "unexpected skip: could not import 'no_such_package'" in done.stdout
    assert "Timeout (>1.0s)" in done.stdout
    assert done.returncode == 1


def test_every_test_has_a_limit(pytestconfig: pytest.Config) -> None:
    """What a test waits for may never come; `make test` gives no limit of its own."""
    assert 0 < float(pytestconfig.getini("timeout")) <= 900
