"""GenFace: a folder for the real faces and one for each generator, labelled by an editable table.

The authors publish neither counts nor layout nor split lists, so the table and the tree are a
contract with the user: see docs/data/genface.md.
"""

from __future__ import annotations

from pathlib import Path

from mfclip.datasets.sources.class_folders import scan_tree
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source
from mfclip.datasets.sources.generators import builtin_table, read_table

TITLE = "GenFace"
PAGE = "docs/data/genface.md"


def scan(root: Path, options: ScanOptions = DEFAULTS) -> ScanResult:
    """Read ``[split/]<real|generator>/**``; all four label levels are known.

    Raises:
        ManifestError: wrong root, no known generator, a generator folder without a picture.
    """
    table = read_table(options.table or builtin_table("genface"))
    return scan_tree(TITLE, PAGE, root, lambda folder: table.find(folder.name), options)


GENFACE = Source(
    name="genface",
    title=TITLE,
    scan=scan,
    page=PAGE,
    options=("table", "group_by"),
    unit="images",
    citation="Zhang et al., GenFace, IEEE TIFS 2024 (publishes no counts)",
)
