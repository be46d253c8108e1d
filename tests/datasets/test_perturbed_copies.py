from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.data.manifest import Manifest, Sample, check_files, read_manifest
from mfclip.datasets.perturbed_copies import perturb_manifest
from mfclip.errors import ConfigError, ManifestError
from mfclip.labels import Labels
from mfclip.media.perturbations import perturb, seed_of


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two pictures whose names differ only in the ending, in one folder, and one large fake."""
    root = tmp_path / "faces"
    (root / "real").mkdir(parents=True)
    Image.fromarray(picture(0)).save(root / "real" / "a.png")
    Image.fromarray(picture(1)).save(root / "real" / "a.bmp")
    Image.fromarray(picture(2, (256, 260))).save(root / "b.PNG", "PNG")
    real, fake = Labels(False), Labels(True, "face_swap", None, "FSGAN")
    samples = (
        Sample(root / "real" / "a.png", real, "train", "anna"),
        Sample(root / "real" / "a.bmp", real, "test", "bert", "video7"),
        Sample(root / "b.PNG", fake, "test", "carl"),
    )
    return Manifest(samples, root)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_every_copy_is_the_perturbed_picture(manifest: Manifest, tmp_path: Path) -> None:
    report = perturb_manifest(manifest, tmp_path / "out", ["GNC", "BW"], [0, 1, 3])
    assert list(report.manifests) == [(k, n) for k in ("GNC", "BW") for n in (0, 1, 3)]
    assert (report.written, report.kept, report.failures) == (18, 0, {})
    assert report.without_blocks == 2
    names = ["real/a.png", "real/a.bmp", "b.PNG"]
    for (kind, level), path in report.manifests.items():
        copies = read_manifest(path)
        assert check_files(copies) == []
        for copy, sample, name in zip(copies, manifest, names, strict=True):
            expected = perturb(read(sample.path), kind, level, seed=seed_of(name))
            np.testing.assert_array_equal(read(copy.path), expected)


def test_labels_splits_and_groups_are_carried_over(manifest: Manifest, tmp_path: Path) -> None:
    report = perturb_manifest(manifest, tmp_path / "out", ["CC"], [2])
    copies = read_manifest(report.manifests["CC", 2])
    for copy, sample in zip(copies, manifest, strict=True):
        assert (copy.labels, copy.split, copy.group, copy.video_id) == (
            sample.labels,
            sample.split,
            sample.group,
            sample.video_id,
        )


def test_second_run_writes_only_what_is_missing(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = perturb_manifest(manifest, out, ["GNC"], [1, 2])
    files = sorted(out.rglob("*.png"))
    content = {file: file.read_bytes() for file in files}
    files[0].unlink()
    for file in files[1:]:
        os.utime(file, (1, 1))
    second = perturb_manifest(manifest, out, ["GNC"], [1, 2])
    assert (first.written, second.written, second.kept) == (6, 1, 5)
    assert {file: file.read_bytes() for file in sorted(out.rglob("*.png"))} == content
    assert all(file.stat().st_mtime == 1 for file in files[1:])


@pytest.mark.slow
def test_processes_write_the_same_files(manifest: Manifest, tmp_path: Path) -> None:
    for number in range(40):  # more than the chunk that one process takes at a time
        Image.fromarray(picture(number)).save(manifest.root / f"{number}.png")
    samples = (
        Sample(manifest.root / f"{number}.png", Labels(False), "test", "x") for number in range(40)
    )
    many = Manifest(tuple(samples), manifest.root)
    one = perturb_manifest(many, tmp_path / "one", ["GNC", "GB"], [1])
    two = perturb_manifest(many, tmp_path / "two", ["GNC", "GB"], [1], workers=2)
    assert one.written == two.written == 80
    first, other = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert first == other


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_broken_file_is_listed_and_left_out(manifest: Manifest, tmp_path: Path) -> None:
    broken = manifest[0].path
    broken.write_bytes(broken.read_bytes()[:300])
    report = perturb_manifest(manifest, tmp_path / "out", ["CC", "CS"], [1])
    assert set(report.failures) == {broken}
    for path in report.manifests.values():
        assert [s.group for s in read_manifest(path)] == ["bert", "carl"]
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [broken.as_posix()]
    assert "cut short" in rows[0]["reason"]

    Image.fromarray(picture(0)).save(broken)  # mended: the list goes, the picture is taken up
    report = perturb_manifest(manifest, tmp_path / "out", ["CC", "CS"], [1])
    assert (report.written, report.kept, report.failures) == (2, 4, {})
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_scaled_blocks_have_a_folder_of_their_own(manifest: Manifest, tmp_path: Path) -> None:
    plain = perturb_manifest(manifest, tmp_path / "out", ["BW"], [5])
    scaled = perturb_manifest(manifest, tmp_path / "out", ["BW"], [5], scale_blocks=True)
    assert scaled.written == 3
    assert (plain.without_blocks, scaled.without_blocks) == (2, 0)
    small = [read_manifest(report.manifests["BW", 5])[0].path for report in (plain, scaled)]
    np.testing.assert_array_equal(read(small[0]), picture(0))
    assert (read(small[1]) != picture(0)).any()


def test_picture_outside_the_root_stays_below_the_folder(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "far.png")
    root = tmp_path / "root"
    manifest = Manifest((Sample(tmp_path / "far.png", Labels(False), "test", "x"),), root)
    out = tmp_path / "out"
    copy = read_manifest(perturb_manifest(manifest, out, ["CC"], [1]).manifests["CC", 1])[0]
    assert copy.path.is_relative_to(out / "CC-1" / "outside")
    np.testing.assert_array_equal(read(copy.path), perturb(picture(0), "CC", 1, seed=0))


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    gone = Manifest((Sample(tmp_path / "gone.png", Labels(False), "test", "x"),), tmp_path)
    with pytest.raises(ManifestError, match="none of the 1 files could be read"):
        perturb_manifest(gone, tmp_path / "out", ["CC"], [1])
    assert "no such file" in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.parametrize(
    ("kinds", "levels", "message"),
    [(["X"], [1], "kind to be one of"), (["CC"], [9], "but got 9"), (["CC"], [], "at least one")],
)
def test_wrong_arguments_are_found_before_anything_is_written(
    manifest: Manifest, tmp_path: Path, kinds: list[str], levels: list[int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        perturb_manifest(manifest, tmp_path / "out", kinds, levels)
    assert not (tmp_path / "out").exists()


def test_progress_ends_at_the_total(manifest: Manifest, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    perturb_manifest(
        manifest, tmp_path / "out", ["CC", "CS"], [1], progress=lambda *told: seen.append(told)
    )
    assert seen[-1] == ("perturbing", 6, 6)
