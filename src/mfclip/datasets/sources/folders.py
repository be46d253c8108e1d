"""People's own pictures and videos: a folder ``real``, and ``fake`` or one folder a generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mfclip.datasets.sources.class_folders import SPLIT_FOLDERS, scan_tree
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source
from mfclip.datasets.sources.disk import open_root, walk_folders
from mfclip.labels import Labels

TITLE = "real and fake folders"
PAGE = "docs/data/folders.md"

_REAL = ("real", "reals", "0_real", "original", "originals")
_FAKE = ("fake", "fakes", "1_fake", "forged")
_NO_FACES = ("mask", "masks", "landmark", "landmarks", "annotations")
"""Folders that hold something about pictures and no pictures of faces."""


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read ``[split/]real/**`` and ``[split/]fake/**`` or ``[split/]<generator>/**``.

    An unknown folder beside a real one holds fakes and is named as their generator. Of the levels
    between, nothing is known.

    Raises:
        ManifestError: wrong root, no class there, one of them without a file.
    """
    root = open_root(TITLE, root, PAGE)
    generators = _find_generators(root)

    def lookup(folder: Path) -> Labels | None:
        name = folder.name.lower()
        if name in _REAL:
            return Labels(is_fake=False)
        if name in _FAKE:
            return Labels(is_fake=True)
        return generators.get(folder)

    result = scan_tree(TITLE, PAGE, root, lookup, options)
    names = sorted({labels.generator for labels in generators.values() if labels.generator})
    if not names:
        return result
    note = f"taken as fakes, since they lie beside the real faces: {', '.join(names)}"
    return replace(result, notes=(note, *result.notes))


def _find_generators(root: Path) -> Mapping[Path, Labels]:
    """Unknown folders beside real ones, by their path below the root.

    A split without reals of its own has the generators of the others.
    """
    known = {*_REAL, *_FAKE, *_NO_FACES, *SPLIT_FOLDERS}
    holding: set[Path] = set()  # folders with media in them or below
    for folder, names in walk_folders(root):
        if names:
            inside = folder.relative_to(root)
            holding |= {inside, *inside.parents}
    beside = {
        folder.parent
        for folder in holding
        if folder.name.lower() in _REAL
        and not any(part.lower() in (*_REAL, *_FAKE) for part in folder.parts[:-1])
    }
    unknown = [folder for folder in holding if folder.name and folder.name.lower() not in known]
    generators = {folder.name for folder in unknown if folder.parent in beside}
    return {
        folder: Labels(True, generator=folder.name)
        for folder in unknown
        if folder.parent in beside
        or (folder.name in generators and folder.parent.name.lower() in SPLIT_FOLDERS)
    }


FOLDERS = Source(
    name="folders", title=TITLE, scan=scan, page=PAGE, options=("group_by",), unit="images"
)
