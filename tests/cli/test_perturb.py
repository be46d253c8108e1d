from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mfclip.cli.perturb import perturb
from mfclip.data.manifest import read_manifest
from mfclip.errors import ConfigError, ManifestError
from mfclip.media.perturbations import PERTURBATIONS
from mfclip.media.perturbations import perturb as perturb_image

app = typer.Typer()
app.command()(perturb)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = ["path,label,manipulation,family,generator,split"]
    for name, split in (("a", "train"), ("b", "test"), ("c", "test")):
        image = np.random.default_rng(ord(name)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        rows.append(f"{name}.png,real,,,,{split}")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(rows))
    return path


def test_writes_the_asked_cells_of_one_split(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--kinds", "GB, BW", "--levels", "1,5", "--split", "test", "-o", str(out)]
    result = CliRunner().invoke(app, [str(manifest), *options])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["BW-1", "BW-5", "GB-1", "GB-5"]
    assert [s.path.name for s in read_manifest(out / "GB-5" / "manifest.csv")] == ["b.png", "c.png"]
    written = np.asarray(Image.open(out / "GB-5" / "b.png"))
    source = np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(written, perturb_image(source, "GB", 5, seed=0))
    assert "8 images written, 0 kept" in result.output
    assert "BW left 2 files unchanged" in result.output


def test_broken_file_is_told(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no picture")
    result = CliRunner().invoke(
        app, [str(manifest), "-o", str(tmp_path / "out"), "--kinds", "CC", "--levels", "1"]
    )
    assert result.exit_code == 0
    assert "left out 1 file(s), see" in result.output


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--levels", "one"], ConfigError, "numbers like 1,2,3,4,5, but got 'one'"),
        (["--kinds", "blur"], ConfigError, "but got 'blur'"),
        (["--kinds", ""], ConfigError, "at least one kind"),
        (["--split", "dev"], ManifestError, "no sample is in split 'dev'"),
    ],
)
def test_wrong_options(
    manifest: Path, tmp_path: Path, options: list[str], error: type, message: str
) -> None:
    result = CliRunner().invoke(app, [str(manifest), "-o", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_help_names_the_default_grid() -> None:
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).output
    assert ",".join(PERTURBATIONS) in output
