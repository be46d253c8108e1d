"""``mfclip data prepare``: the crops of the predictor, what is printed, and a second run."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from typer.testing import CliRunner, Result

from mfclip.cli.app import app
from mfclip.cli.prepare import describe
from mfclip.data.manifest import read_manifest
from mfclip.datasets.prepare import PrepareReport
from mfclip.errors import ConfigError
from mfclip.media.images import read_image
from mfclip.media.video import write_video
from mfclip.predict.faces import DetectedFaces


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "prepare", *map(str, words), "--workers", "0"])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A portrait, a video of a wall that is called fake, and a file that is no picture."""
    Image.fromarray(data.astronaut()).resize((256, 256)).save(tmp_path / "a.png")
    write_video(tmp_path / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3, 5.0)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    rows = [
        "path,label,manipulation,family,generator,split,group",
        "a.png,real,,,camera,train,anna",
        "wall.mp4,fake,face_swap,gan,FSLSD,test,bob",
        "broken.jpg,real,,,camera,train,carl",
    ]
    path = tmp_path / "raw.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_crops_are_those_of_the_predictor_and_losses_are_counted(raw: Path) -> None:
    out = raw.parent / "crops"
    result = run(raw, "-o", out)
    assert result.exit_code == 0, result.output
    assert "3 inputs: 1 faces -> " in result.output
    assert "without a face: 1 (FSLSD 1)" in result.output
    assert "unreadable: 1 (real 1)" in result.output
    with (out / "failures.csv").open(newline="") as file:
        assert [row["failure"] for row in csv.DictReader(file)] == ["without_face", "unreadable"]
    (crop,) = read_manifest(out / "manifest.csv")
    assert (crop.split, crop.group, crop.labels.generator) == ("train", "anna", "camera")
    expected = DetectedFaces().find(read_image(raw.parent / "a.png"))[0].pixels
    np.testing.assert_array_equal(read_image(crop.path), expected)


def test_a_second_run_goes_on_and_other_options_are_refused(raw: Path) -> None:
    out = raw.parent / "crops"
    words = (raw, "-o", out, "--size", 64, "--num-frames", 1)
    assert run(*words).exit_code == 0
    again = run(*words)
    assert "3 inputs (3 done by an earlier run): 1 faces" in again.output
    other = run(*words, "--quality", 90)
    with pytest.raises(ConfigError, match=r"other options \(quality=None there, 90 now\)"):
        raise other.exception or AssertionError(other.output)


def test_a_quality_that_does_not_exist(raw: Path) -> None:
    result = run(raw, "-o", raw.parent / "crops", "--quality", 0)
    with pytest.raises(ConfigError, match="quality of 1 to 100, but got 0"):
        raise result.exception or AssertionError(result.output)
    assert not (raw.parent / "crops").exists()


def test_nothing_lost_takes_one_line(tmp_path: Path) -> None:
    report = PrepareReport(5, 0, 7, Counter(), Counter(), tmp_path / "m.csv", tmp_path / "f.csv")
    assert describe(report) == [f"5 inputs: 7 faces -> {tmp_path / 'm.csv'}"]
