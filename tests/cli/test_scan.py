"""``mfclip data scan``: what it writes, prints and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mfclip.cli.scan import parse_options, scan
from mfclip.data.manifest import check_files, read_manifest
from mfclip.datasets.sources import SOURCES, ScanOptions
from mfclip.errors import ConfigError, MfclipError

app = typer.Typer()
app.command()(scan)


def make_tree(root: Path) -> Path:
    for name in ("real", "fake"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_the_manifest_can_be_read_back_from_another_folder(tmp_path: Path, name: str) -> None:
    root = make_tree(tmp_path / "mine")
    out = tmp_path / "lists" / name
    result = CliRunner().invoke(app, ["folders", str(root), "-o", str(out)])
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    assert not check_files(manifest)
    assert manifest.samples == SOURCES["folders"].scan(root).manifest.samples
    train = sum(s.split == "train" and s.target == 0 for s in manifest)
    assert f"{train}" in next(line for line in result.output.splitlines() if "real" in line)
    assert "note: no official split" in result.output
    assert "docs/data/folders.md" in result.output.replace("\n", "")


def test_options_are_parsed_to_their_types() -> None:
    options = parse_options(
        ["ff_root=a/b", "compression=c40", "prefer=frames", "val_fraction=0.2"],
        SOURCES["deeperforensics"],
    )
    assert options == ScanOptions(
        ff_root=Path("a/b"), compression="c40", prefer="frames", val_fraction=0.2
    )
    columns = parse_options(["columns=path:FILE,label:IS_FAKE"], SOURCES["table"]).columns
    assert columns == {"path": "FILE", "label": "IS_FAKE"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["genfaces", "x"], "did you mean 'genface'?"),
        (["folders", "x", "--out", "m.txt"], "ending in .parquet, .csv or .jsonl, but got 'm.txt'"),
        (["folders", "x", "--option", "group_by"], "expected --option KEY=VALUE"),
        (["folders", "x", "--option", "groupby=file"], "did you mean 'group_by'?"),
        (["folders", "x", "--option", "group_by=name"], "one of ['file', 'folder']"),
        (["folders", "x", "--option", "val_fraction=ten"], "val_fraction to be a number"),
        (["folders", "x", "--option", "compression=c40"], "it heeds group_by, val_fraction"),
        (["table", "x", "--option", "columns=path"], "expected columns=path:FILE"),
        (["folders", "absent"], "expected a folder at absent; found no such path"),
    ],
)
def test_mistakes_get_one_clear_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, MfclipError)
    assert message in str(result.exception)


def test_a_validation_share_out_of_range(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "train")
    with pytest.raises(ConfigError, match=r"from 0 to less than 1, but got 1\.5"):
        SOURCES["folders"].scan(tree.parent, ScanOptions(val_fraction=1.5))
