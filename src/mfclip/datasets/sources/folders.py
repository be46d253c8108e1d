"""People's own pictures and videos: a folder ``real`` and a folder ``fake``."""

from __future__ import annotations

from pathlib import Path

from mfclip.datasets.sources.class_folders import scan_tree
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source
from mfclip.labels import Labels

TITLE = "real and fake folders"
PAGE = "docs/data/folders.md"

_REAL = ("real", "reals", "0_real", "original", "originals")
_FAKE = ("fake", "fakes", "1_fake", "forged")


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read ``[split/]real/**`` and ``[split/]fake/**``; only level 1 is known.

    Raises:
        ManifestError: wrong root, neither folder there, one of them without a file.
    """
    return scan_tree(TITLE, PAGE, root, _lookup, options)


def _lookup(folder: str) -> Labels | None:
    name = folder.lower()
    if name in _REAL:
        return Labels(is_fake=False)
    return Labels(is_fake=True) if name in _FAKE else None


FOLDERS = Source(
    name="folders", title=TITLE, scan=scan, page=PAGE, options=("group_by",), unit="images"
)
