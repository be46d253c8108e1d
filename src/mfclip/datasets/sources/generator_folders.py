"""Trees with one folder a generator: DiFF, DiffusionFace, DeepFakeFace, and any with its own table.

Each data set is only a table (``diff.toml``, ``diffusionface.toml``, ``deepfakeface.toml``); all
are read by the same engine.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mfclip.datasets.sources.class_folders import scan_tree
from mfclip.datasets.sources.contract import DEFAULTS, ScanOptions, ScanResult, Source
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ManifestError

PAGE = "docs/data/generator_folders.md"


def scan(
    root: Path,
    options: ScanOptions = DEFAULTS,
    *,
    title: str = "generator folders",
    table: str = "",
) -> ScanResult:
    """Read a tree of generator folders.

    Args:
        root: top of the tree.
        options: `table` replaces the built-in one.
        title: of the data set, for messages.
        table: name of the built-in table; without one `options.table` is needed.

    Raises:
        ManifestError: no table, wrong root, no known class, a class folder without a file.
    """
    path = options.table or (builtin_table(table) if table else None)
    if path is None:
        raise ManifestError(
            f"{title}: expected a table of the folder names, --option table=FILE.toml; see {PAGE}"
        )
    known = read_table(path)
    return scan_tree(title, PAGE, root, lambda folder: known.find(folder.name), options)


GENERATOR_FOLDERS = Source(
    name="generator_folders",
    title="Generator folders",
    scan=scan,
    page=PAGE,
    options=("table", "group_by"),
    unit="images",
)

DIFF = Source(
    name="diff",
    title="DiFF",
    scan=partial(scan, title="DiFF", table="diff"),
    page=PAGE,
    options=("table", "group_by"),
    unit="images",
    citation="Cheng et al., ACM MM 2024: over 500,000 images of 13 methods; none per folder",
)

DIFFUSIONFACE = Source(
    name="diffusionface",
    title="DiffusionFace",
    scan=partial(scan, title="DiffusionFace", table="diffusionface"),
    page=PAGE,
    options=("table", "group_by"),
    expected={"DiffSwap": 30000},
    unit="images",
    citation="Chen et al., arXiv 2403.18471: 30,000 swapped images; others not verified",
)

DEEPFAKEFACE = Source(
    name="deepfakeface",
    title="DeepFakeFace",
    scan=partial(scan, title="DeepFakeFace", table="deepfakeface"),
    page=PAGE,
    options=("table", "group_by"),
    expected=dict.fromkeys(("wiki", "text2img", "inpainting", "insight"), 30000),
    unit="images",
    citation="Song et al., arXiv 2309.02218 and the card of OpenRL/DeepFakeFace: 30,000 each",
)
