from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from mfclip.predict.face_reader import FoundFile
from mfclip.predict.files import find_files
from mfclip.predict.prediction import Failure


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/c.webp", "sub/deep/d.jpeg",
                 "sub/film.MOV", ".cache/e.jpg", "empty/readme.md", "odd[1].png"):  # fmt: skip
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "photos" / "empty" / "none").mkdir()
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(*given: str) -> list[str]:
    return [str(found) for found in find_files(given) if isinstance(found, Path)]


def test_a_folder_gives_all_its_files_in_order(tree: Path) -> None:
    """What they are, only their content tells."""
    expected = [
        "a.png",
        "b.JPG",
        "empty/readme.md",
        "gone.jpg",
        "notes.txt",
        "odd[1].png",
        "sub/c.webp",
        "sub/deep/d.jpeg",
        "sub/film.MOV",
    ]
    assert names("photos") == [f"photos/{name}" for name in expected]
    assert all(isinstance(found, FoundFile) for found in find_files(["photos"]))
    assert not any(isinstance(found, FoundFile) for found in find_files(["photos/a.png"]))


def test_a_file_is_taken_whatever_its_ending_and_as_it_was_named(tree: Path) -> None:
    assert names("photos/notes.txt", "photos/../photos/a.png", "absent.png") == [
        "photos/notes.txt", "photos/../photos/a.png", "absent.png"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.png", ["a.png", "odd[1].png"]),
        ("photos/?.png", ["a.png"]),
        ("photos/**/*.jpeg", ["sub/deep/d.jpeg"]),
        ("photos/s*", ["sub/c.webp", "sub/deep/d.jpeg", "sub/film.MOV"]),
        ("photos/odd[1].png", ["odd[1].png"]),
    ],
)
def test_a_pattern_gives_what_the_shell_would(
    tree: Path, pattern: str, expected: list[str]
) -> None:
    assert names(pattern) == [f"photos/{name}" for name in expected]


def test_a_double_star_takes_nothing_twice(tree: Path) -> None:
    found = names("photos/**/*")
    assert len(found) == len(set(found))
    assert {Path(name).name for name in found} >= {"a.png", "c.webp", "d.jpeg"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos/empty/none", "no file in this folder; expected images or videos"),
        ("*.xyz", "matches nothing"),
    ],
)
def test_what_holds_no_picture_is_said(tree: Path, name: str, message: str) -> None:
    (failure,) = find_files([name])
    assert isinstance(failure, Failure)
    assert failure.path == name
    assert re.search(message, failure.error)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_locked_folder_is_said_and_the_others_are_searched() -> None:
    with tempfile.TemporaryDirectory() as name:  # of which every user may see the names
        folder = Path(name)
        (folder / "locked").mkdir()
        (folder / "seen.png").touch()
        for path, mode in ((folder, 0o755), (folder / "locked", 0)):
            path.chmod(mode)
        is_root = os.geteuid() == 0  # root may open everything, so become somebody else
        if is_root:
            os.seteuid(65534)
        try:
            locked, seen = find_files([name])
        finally:
            if is_root:
                os.seteuid(0)
            (folder / "locked").chmod(0o755)
    assert isinstance(locked, Failure)
    assert "cannot open this folder: Permission denied" in locked.error
    assert seen == folder / "seen.png"
