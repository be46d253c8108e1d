"""``mfclip data doctor | audit | show | pack`` through the command line, on files made here."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mfclip.cli.app import app
from mfclip.data.manifest import read_manifest
from mfclip.errors import ConfigError, ManifestError


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_doctor_prints_counts_and_says_usable_and_what_to_heed(made_faces: Path) -> None:
    result = run("doctor", made_faces, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "48 samples: 24 real, 24 fake" in result.output
    assert "train real camera: 12" in result.output
    assert "whole pictures and no face crops" in result.output  # made pictures hold no face
    assert result.output.rstrip().endswith("usable, but heed the warnings")


def test_doctor_status_and_json_of_absent_files(made_faces: Path, tmp_path: Path) -> None:
    result = run("doctor", made_faces, "--root", tmp_path, "--workers", 0, "--json")
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert report["usable"] is False
    worst = report["findings"][0]
    assert (worst["severity"], worst["check"], worst["count"]) == ("error", "files", 48)
    assert "--root" in worst["advice"]


def test_doctor_heeds_the_source_and_warnings_only_if_strict(made_faces: Path) -> None:
    words = ("doctor", made_faces, "--workers", 0, "--source", "celebdf_v2")
    result = run(*words)
    assert result.exit_code == 0
    assert "Celeb-synthesis: 0 of the 5639 published are there" in result.output
    assert result.output.rstrip().endswith("usable, but heed the warnings")
    assert run(*words, "--strict").exit_code == 1


@pytest.mark.slow
def test_audit_writes_a_report_and_its_figures(made_faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "audit.html"
    result = run("audit", made_faces, "-o", out, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "can score 1.00 by file size alone" in result.output  # PNGs of a fine grid are larger
    assert f"cheat with? {made_faces.parent.name}/manifest.csv</h1>" in out.read_text()
    assert json.loads(out.with_suffix(".json").read_text())["num_images"] == 48


def test_show_draws_a_row_for_each_class(made_faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert run("show", made_faces, "-o", out, "--columns", 4, "--size", 32).exit_code == 0
    with Image.open(out) as sheet:
        assert sheet.height > 3 * 32  # camera, A, B


def test_pack_writes_every_face_of_each_split_once(made_faces: Path, tmp_path: Path) -> None:
    result = run("pack", made_faces, "-o", tmp_path, "--faces", 9)
    assert result.exit_code == 0, result.output
    assert "split 'train': 24 faces in 3 shards" in result.output
    for split in ("train", "val", "test"):
        stored = []
        for path in (tmp_path / split).glob("*.tar"):
            with tarfile.open(path) as tar:
                records = [tar.extractfile(e) for e in tar if e.name.endswith(".json")]
                stored += [json.load(record)["path"] for record in records if record]
        expected = [sample.path.name for sample in read_manifest(made_faces).split(split)]
        assert sorted(stored) == sorted(expected)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("doctor", "absent.csv"), ManifestError, r"no manifest at absent\.csv"),
        (("doctor", "M", "--source", "celeb"), ConfigError, "celebdf_v2.*but got 'celeb'"),
        (("audit", "M", "--train", "train"), ManifestError, "name the other one"),
        (("show", "M", "-o", "sheet.jpg"), ConfigError, r"ending in \.png, but got 'sheet\.jpg'"),
        (("pack", "M", "-o", "O", "--split", "dev"), ManifestError, "no sample is in split 'dev'"),
    ],
)
def test_mistakes_get_one_clear_line(
    made_faces: Path, words: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = run(*(str(made_faces) if word == "M" else word for word in words))
    assert isinstance(result.exception, error)
    with pytest.raises(error, match=message):
        raise result.exception
