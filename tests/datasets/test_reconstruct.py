"""Twins and maps of a manifest: aligned, made alike, taken up again, failures named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mfclip.cli.app import app
from mfclip.data.dataset import RECONSTRUCTED, SELF_BLENDED, FaceDataset
from mfclip.data.manifest import Framing, Manifest, Sample, read_manifest
from mfclip.data.sampling import FORGED_HALF, REAL_HALF
from mfclip.datasets.reconstruct import reconstruct
from mfclip.errors import ConfigError, ManifestError
from mfclip.labels import Labels
from mfclip.media.reconstructors import Reconstructor, jpeg, recode

FAKE = Labels(True, "face_swap", "gan", "Swapper")
REAL = Labels(False, generator="Camera")


@pytest.fixture
def pictures(tmp_path: Path) -> Manifest:
    """Four smooth pictures, real and fake in turn, two sizes, real as JPEG and fake as PNG."""
    samples = []
    for number in range(4):
        small = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        side = (48, 40)[number // 2]
        picture = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
        path = tmp_path / "raw" / f"{number}.{('jpg', 'png')[number % 2]}"
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=95)
        labels = (REAL, FAKE)[number % 2]
        samples.append(Sample(path, labels, ("train", "test")[number // 2], f"g{number // 2}"))
    return Manifest(tuple(samples), tmp_path / "raw", Framing(1.3, align=True))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_maps_are_what_the_twin_has_lost(pictures: Manifest, tmp_path: Path) -> None:
    report = reconstruct(pictures, tmp_path / "out", jpeg(40), "maps")
    maps = read_manifest(report.manifest)
    known = [(s.labels, s.split, s.group) for s in pictures]
    assert [(s.labels, s.split, s.group) for s in maps] == known
    assert maps.framing == pictures.framing
    for source, sample in zip(pictures, maps, strict=True):
        # compressed alike first, real or fake, whatever the file was
        given = recode(Image.open(source.path).convert("RGB"), 90)
        lost = np.abs(np.asarray(given).astype(int) - np.asarray(recode(given, 40)).astype(int))
        assert np.abs(read(sample.path) - lost).max() <= 1
        assert sample.path.suffix == ".png"


def test_twins_stand_beside_their_reals(pictures: Manifest, tmp_path: Path) -> None:
    report = reconstruct(pictures, tmp_path / "out", jpeg(40))
    rows = read_manifest(report.manifest).samples
    twin = Labels(True, "attribute_manipulation", "graphics", "twin-jpeg-40")
    assert [s.labels for s in rows] == [REAL, twin, REAL, twin]
    assert [(s.split, s.group) for s in rows] == [("train", "g0")] * 2 + [("test", "g1")] * 2
    for real, fake in (rows[:2], rows[2:]):
        assert (real.path.parent, real.path.stem) == (tmp_path / "raw", fake.path.stem)
        expected = recode(Image.open(real.path).convert("RGB"), 40)
        assert (read(fake.path) == np.asarray(expected)).all()  # aligned, of the picture as it is


def test_training_finds_the_twins(pictures: Manifest, tmp_path: Path) -> None:
    reconstruct(pictures, tmp_path / "out", jpeg(5))
    dataset = FaceDataset(pictures, resize=40, image_size=40, twins=tmp_path / "out" / "twins")
    (real, fake) = (dataset[0, 1, role] for role in (REAL_HALF, FORGED_HALF))
    assert not real.labels.is_fake
    assert fake.labels.is_fake
    found = {dataset[0, epoch, FORGED_HALF].labels for epoch in range(12)}
    assert found == {RECONSTRUCTED, SELF_BLENDED}


def test_a_second_run_makes_only_what_is_missing_or_changed(
    pictures: Manifest, tmp_path: Path
) -> None:
    calls: list[int] = []
    inner = jpeg(40)

    def run(images):  # type: ignore[no-untyped-def]
        calls.append(len(images))
        return inner.run(images)

    counted = Reconstructor(inner.name, inner.family, run)
    reconstruct(pictures, tmp_path / "out", counted, "maps", batch_size=8)
    assert calls == [2, 2]  # neighbours of one size together
    sorted((tmp_path / "out" / "maps").rglob("*.png"))[0].unlink()
    Image.new("RGB", (48, 48), "red").save(pictures[1].path)
    report = reconstruct(pictures, tmp_path / "out", counted, "maps")
    assert calls == [2, 2, 2]
    assert (report.pictures, report.kept) == (4, 2)
    with pytest.raises(ConfigError, match=r"made otherwise .*jpeg-40.* and now .*jpeg-41"):
        reconstruct(pictures, tmp_path / "out", jpeg(41), "maps")


def test_pictures_are_brought_to_the_size_that_a_network_takes(
    pictures: Manifest, tmp_path: Path
) -> None:
    Image.new("RGB", (60, 30)).save(pictures[0].path)
    report = reconstruct(pictures, tmp_path / "out", replace(jpeg(40), size=32), "maps")
    assert {read(s.path).shape for s in read_manifest(report.manifest)} == {(32, 32, 3)}


def test_what_cannot_be_read_is_named_and_left_out(pictures: Manifest, tmp_path: Path) -> None:
    pictures[1].path.write_text("no picture")
    pictures[2].path.unlink()
    report = reconstruct(pictures, tmp_path / "out", jpeg(40), "maps")
    assert set(report.failures) == {pictures[1].path, pictures[2].path}
    assert len(read_manifest(report.manifest)) == 2
    text = (tmp_path / "out" / "failures.csv").read_text()
    assert "1.png" in text
    assert "not an image" in text
    for sample in pictures:
        sample.path.write_text("no picture")
    with pytest.raises(ManifestError, match="none of 4 pictures could be read"):
        reconstruct(pictures, tmp_path / "all", jpeg(40), "maps")


def test_pictures_that_would_be_one_file_are_refused(pictures: Manifest, tmp_path: Path) -> None:
    other = pictures[0].path.with_suffix(".png")
    Image.open(pictures[0].path).save(other)
    more = replace(pictures, samples=(*pictures.samples, replace(pictures[0], path=other)))
    with pytest.raises(ManifestError, match="2 pictures differ in their ending alone"):
        reconstruct(more, tmp_path / "out", jpeg(40))
    fakes = pictures.where(lambda sample: sample.labels.is_fake)
    with pytest.raises(ManifestError, match="twins are made of real faces"):
        reconstruct(fakes, tmp_path / "out", jpeg(40))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "reconstruct", *map(str, words)])


def test_the_command(pictures: Manifest, tmp_path: Path) -> None:
    pictures.write(tmp_path / "raw" / "m.csv")
    out = tmp_path / "out"
    done = run(tmp_path / "raw" / "m.csv", "-o", out, "--with", "resize:3", "--device", "cpu")
    assert done.exit_code == 0, done.exception
    assert "2 images reconstructed with resize-3" in done.stdout
    assert f"twins -> {out / 'twins.csv'}" in done.stdout
    for words, message in (
        (("--with", "magic"), "expected --with to be one of [jpeg, resize"),
        (("--with", "jpeg:high"), "expected --with jpeg:NUMBER"),
        (("--with", "vae"), "--with vae needs --weights FOLDER"),
        (("--with", "autoencoder"), "at least 16 real faces in split 'train'"),
    ):
        done = run(tmp_path / "raw" / "m.csv", "-o", tmp_path / "other", *words)
        assert message in str(done.exception)


def test_an_autoencoder_is_trained_on_the_reals_and_kept(tmp_path: Path) -> None:
    samples = []
    for number in range(20):
        small = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(small).resize((24, 24), Image.Resampling.BICUBIC).save(path)
        samples.append(Sample(path, REAL if number < 17 else FAKE, "train", str(number)))
    Manifest(tuple(samples), tmp_path).write(tmp_path / "m.csv")
    words = (tmp_path / "m.csv", "-o", tmp_path / "out", "--with", "autoencoder", "--epochs", 1)
    done = run(*words)
    assert done.exit_code == 0, done.exception
    stamp = (tmp_path / "out" / "autoencoder.safetensors").stat().st_mtime_ns
    assert run(*words).exit_code == 0
    assert (tmp_path / "out" / "autoencoder.safetensors").stat().st_mtime_ns == stamp
