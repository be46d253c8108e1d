from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.errors import ConfigError


def test_folder_is_made_and_the_trial_leaves_nothing(tmp_path: Path) -> None:
    open_folder(tmp_path / "a" / "b")
    open_folder(tmp_path / "a" / "b")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "a/b"]


@pytest.mark.parametrize("name", ["taken", "taken/below"])
def test_file_in_the_way_is_named_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("kept")
    with pytest.raises(ConfigError, match=r"^cannot write .*a file, not a folder; choose another"):
        open_folder(tmp_path / name)
    assert (tmp_path / "taken").read_text() == "kept"


def test_full_disk_names_every_target(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/partial")
    with pytest.raises(ConfigError) as caught, refuse_unwritable("-", None, tmp_path / "r.html"):
        raise full
    wanted = f"cannot write the standard output or {tmp_path / 'r.html'}: No space left on device; "
    assert str(caught.value).startswith(wanted)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), refuse_unwritable("x"):
        raise ZeroDivisionError
