"""``mfclip experiment`` as a user gives it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.cli.experiment import _split_names
from mfclip.config import build_config, dump_toml
from mfclip.errors import ConfigError
from mfclip.experiment.protocols import list_protocols, load_protocol

PROTOCOL = """
title = "Made faces"
data = "made faces"
models = ["DIRE", "MFCLIP"]
[[rows]]
name = "image, alone"
overrides.model = { use_noise = false, use_text = false }
[[train]]
name = "A"
generator = ["A"]
[[test]]
name = "B"
generator = ["B"]
"""


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def command(made_faces: Path, tiny_run: dict[str, Any], tmp_path: Path) -> list[object]:
    """A run of the small protocol; the caller adds options."""
    (tmp_path / "made.toml").write_text(PROTOCOL)
    tiny_run["evaluate"] = {"bootstrap": 20}
    (tmp_path / "tiny.toml").write_text(dump_toml(build_config(tiny_run)))
    return [
        "experiment", "run", tmp_path / "made.toml", "--manifest", made_faces, "--device", "cpu",
        "--config", tmp_path / "tiny.toml", "--out", tmp_path / "out", "--set", "train.epochs=1",
    ]  # fmt: skip


def test_list_names_every_protocol_with_its_runs() -> None:
    result = CliRunner().invoke(app, ["experiment", "list"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    for name in list_protocols():
        protocol = load_protocol(name)
        line = next(line for line in result.output.splitlines() if f" {name} " in line)
        runs = len(protocol.rows) * len(protocol.train) * len(protocol.seeds)
        assert re.search(rf"{re.escape(protocol.title)}.* {runs} ", line)


def test_run_fails_in_one_cell_and_reports_the_other(
    command: list[object], made_faces: Path, tmp_path: Path
) -> None:
    result = _run(*command, "--set", "model.noise.patch_size=128")
    assert result.exit_code == 1
    assert "skipped: DIRE: 'dire' judges maps" in result.output
    assert "1 cells finished, 0 finished before, 1 failed" in result.output
    assert "failed: MFCLIP__A__seed0: ConfigError: " in result.output
    result = _run(
        *command, "--set", "model.noise.patch_size=128", "--rows", "image, alone", "--seeds", "0"
    )
    assert result.exit_code == 0
    assert "0 cells finished, 1 finished before, 0 failed" in result.output

    result = _run("experiment", "report", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "without figures: DIRE: skipped: 'dire' judges maps" in result.output
    assert "without figures: MFCLIP__A__seed0: failed: ConfigError" in result.output
    assert "1 finished cells: report.md, report.csv" in result.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert str(tmp_path) not in page  # a page that is sent on names no folder of its maker
    assert str(made_faces.parent) not in page

    result = _run("experiment", "figure", "all", tmp_path / "out")
    assert result.exit_code == 0, result.output
    drawn = {path.name for path in (tmp_path / "out" / "figures").glob("*.pdf")}
    curves = ("det", "histograms", "reliability", "roc", "training")
    assert drawn == {"fig6.pdf", *(f"{name}-A.pdf" for name in curves)}
    assert "left out: fig7: protocol 'made' has no perturbations" in result.output


def test_dry_run_counts_and_estimates_and_writes_nothing(
    command: list[object], tmp_path: Path
) -> None:
    result = _run(*command, "--dry-run", "--rows", "image, alone", "--seeds", "0,3")
    assert result.exit_code == 0, result.output
    row = r"image, alone +A +3 +18 +9 +1 +6 +\d"  # seed, train, val, tests, pictures, time
    assert re.search(row, result.output)
    assert "2 cells, about" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "one"], "numbers like 0,1,2, but got 'one'"),
        (["--rows", "image, Alone"], "but got Alone, image"),
        (["--set", "model.use_text=true"], "itself sets model.use_text = False"),
        (["--tests", "C"], "each test to be one of"),
    ],
)
def test_wrong_options(command: list[object], options: list[str], message: str) -> None:
    result = _run(*command, *options)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_names_with_commas_stay_whole() -> None:
    known = ["CLIP", "CLIP, 1 level", "MFCLIP"]
    assert _split_names(["CLIP, 1 level,MFCLIP", "CLIP"], known) == [
        "CLIP, 1 level", "MFCLIP", "CLIP",
    ]  # fmt: skip
    assert _split_names(["CLIP,MFCLIP, XY"], known) == ["CLIP", "MFCLIP", "XY"]


def test_a_figure_of_faces_needs_faces_and_a_file(made_faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "fig1a.svg"
    given = ["--manifest", made_faces, "--out", out]
    result = _run("experiment", "figure", "fig1a", *given, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert str(out) in result.output.replace("\n", "")
    assert out.read_text().startswith("<?xml")
    for wrong in (given[:2], given[2:], [tmp_path, *given]):
        result = _run("experiment", "figure", "fig1a", *wrong)
        assert isinstance(result.exception, ConfigError)
        assert "give --manifest and --out, and no folder" in str(result.exception)


def test_a_figure_of_results_needs_their_folder(tmp_path: Path) -> None:
    for wrong in ([], [tmp_path, "--out", tmp_path / "a.png"]):
        result = _run("experiment", "figure", "fig6", *wrong)
        assert isinstance(result.exception, ConfigError)
        assert "fig6 shows the results of an experiment: give its folder" in str(result.exception)
    result = _run("experiment", "figure", "fig5", tmp_path)
    assert "among fig6, fig7, fig8, roc," in str(result.exception)
    assert "fig1a, fig9a, fig9b, tsne or all, but got 'fig5'" in str(result.exception)
