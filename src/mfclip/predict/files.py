"""What a user names on the command line -> the files to judge."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mfclip.predict.face_reader import FoundFile
from mfclip.predict.prediction import Failure


def find_files(names: Sequence[str]) -> Iterator[Path | Failure]:
    """Iterate over the files that files, folders and globs stand for.

    What a file holds, only its content tells, so a folder gives every file in it, whatever its
    ending. Folders are searched recursively; hidden files and folders are passed over, links to
    folders not followed. A glob (``*``, ``?``, ``[...]``, ``**`` for any depth) stands for the
    files and folders it matches. Order: as named, alphabetical inside a folder, so that two runs
    agree.

    Args:
        names: as typed by the user.

    Yields:
        Paths in the user's own spelling, those found in a folder as `FoundFile`, or what could not
        be searched: also ``-`` and addresses, which other programs take.
    """
    for name in names:
        path = Path(name)
        if not os.path.lexists(path) and (reason := _no_file(name)):
            yield Failure(name, reason)
        elif not os.path.lexists(path) and glob.has_magic(name):
            yield from _expand(name)
        else:
            yield from _search(path)


def _no_file(name: str) -> str | None:
    """Say why a name that other programs take is taken for no file here."""
    if name == "-":
        return "the standard input is not read; save it to a file and name that"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        return "addresses are not fetched; download the file and name that"
    return None


def _expand(pattern: str) -> Iterator[Path | Failure]:
    matches = sorted(_match(pattern))
    if not matches:
        yield Failure(pattern, "no such file, and as a pattern it matches nothing")
    # `a/**` matches a folder and its contents as well: take those once
    contents_match = "**" in pattern and Path(pattern).name in {"*", "**"}
    for match in matches:
        if not (contents_match and os.path.isdir(match)):
            yield from _search(match)


def _match(pattern: str) -> Iterator[Path]:
    """Match as the shell does, but never through links to folders, which may lead in circles."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    rest = [part if part == "**" else part.replace("**", "*") for part in parts[fixed:]]
    if rest[-1] == "**":
        rest.append("*")
    root = Path(*parts[:fixed])
    for match in root.glob("/".join(rest)):
        if not any(part.startswith(".") for part in match.relative_to(root).parts):
            yield match


def _search(path: Path) -> Iterator[Path | Failure]:
    if not os.path.isdir(path):
        yield path
        return
    empty = True
    for found in _walk(path):
        empty = False
        yield found
    if empty:
        yield Failure(str(path), "no file in this folder; expected images or videos")


def _walk(folder: Path) -> Iterator[FoundFile | Failure]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(_classify(entries))
    except OSError as error:
        yield Failure(str(folder), f"cannot open this folder: {error.strerror}")
        return
    for name, is_folder in found:
        if is_folder:
            yield from _walk(folder / name)
        else:
            yield FoundFile(folder / name)


def _classify(entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, bool]]:
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield entry.name, True
        elif not os.path.isdir(entry.path):
            yield entry.name, False
