import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mfclip.data.manifest import Framing, Manifest, Sample, read_manifest
from mfclip.datasets.doctor import Finding, doctor, exit_code
from mfclip.datasets.sources import SOURCES
from mfclip.labels import Labels
from mfclip.media.faces import FaceDetector, crop_face
from mfclip.media.video import write_video

FAKE = Labels(True, "face_swap", "gan", "Swapper")
REAL = Labels(False, generator="Camera")


def _draw(path: Path, seed: int, **save: int) -> None:
    """Blobs of random colour, unlike those of any other seed."""
    small = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC).save(path, **save)


@pytest.fixture
def healthy(tmp_path: Path) -> Manifest:
    """Three splits with two reals and two fakes each, every picture its own group."""
    samples = []
    for number in range(12):
        split, labels = ("train", "val", "test")[number // 4], (REAL, FAKE)[number % 2]
        path = tmp_path / f"{number}.jpg"
        _draw(path, number)
        samples.append(Sample(path, labels, split, group=str(number)))
    return Manifest(tuple(samples), tmp_path, Framing(1.3, align=True))


def _change(manifest: Manifest, row: int, **values: object) -> Manifest:
    samples = list(manifest.samples)
    samples[row] = replace(samples[row], **values)  # type: ignore[arg-type]
    return replace(manifest, samples=tuple(samples))


def _only(findings: list[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding


def test_a_healthy_set_has_neither_errors_nor_warnings(healthy: Manifest) -> None:
    findings = doctor(healthy, expected={"Swapper": 6, "test/real": 2})
    assert {finding.severity for finding in findings} == {"info"}
    assert exit_code(findings, strict=True) == 0
    counts = _only(findings, "counts")
    assert counts.what == "12 samples: 6 real, 6 fake"
    assert "val fake Swapper: 2" in counts.examples


def test_processes_find_what_one_finds(healthy: Manifest) -> None:
    assert doctor(healthy, workers=2) == doctor(healthy)


@pytest.mark.parametrize(("published", "word"), [(7, "6 of the 7"), (5, "6 found, 5")])
def test_published_counts(healthy: Manifest, published: int, word: str) -> None:
    finding = _only(doctor(healthy, expected={"face_swap": published}), "published counts")
    assert word in finding.what
    assert (finding.severity, finding.count) == ("warning", 1)


def test_published_counts_of_a_split(healthy: Manifest) -> None:
    expected = {"Swapper": 6, "train/Swapper": 2, "val/Swapper": 3, "Other": 9, "val/Other": 4}
    findings = [f for f in doctor(healthy, expected=expected) if f.check == "published counts"]
    assert [f.what for f in findings] == [
        "val/Swapper: 2 of the 3 published are there",
        "Other: 0 of the 9 published are there",  # and not once more for its splits
    ]


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("faceforensics", {"train/Deepfakes": 720, "val/youtube": 140, "test/FaceShifter": 140}),
        ("celebdf_v2", {"test/real": 178, "test/fake": 340}),
        ("deeperforensics", {"train/DF-VAE": 703, "val/DF-VAE": 96, "test/DF-VAE": 201}),
        ("dfdc", {"test": 5000}),
    ],
)
def test_published_splits_are_compared(source: str, published: dict[str, int]) -> None:
    assert published.items() <= SOURCES[source].expected.items()


def test_frames_of_one_video_count_once(healthy: Manifest) -> None:
    samples = tuple(replace(s, video_id=f"v{s.target}") for s in healthy)
    findings = doctor(replace(healthy, samples=samples), expected={"Swapper": 1})
    assert _only(findings, "published counts").severity == "info"


def test_absent_and_damaged_files(healthy: Manifest) -> None:
    healthy[0].path.unlink()
    data = healthy[1].path.read_bytes()
    healthy[1].path.write_bytes(data[: len(data) // 2])
    healthy[2].path.write_text("no picture")
    findings = doctor(healthy)
    assert _only(findings, "files").examples == (str(healthy[0].path),)
    damaged = _only(findings, "decode")
    assert damaged.count == 2
    assert [text.partition(": ")[0] for text in damaged.examples] == [
        str(healthy[1].path),
        str(healthy[2].path),
    ]
    assert exit_code(findings) == 2


def test_nothing_readable_is_reported_and_not_raised(healthy: Manifest) -> None:
    for sample in healthy:
        sample.path.unlink()
    assert _only(doctor(healthy), "files").count == 12


def test_a_straddling_group(healthy: Manifest) -> None:
    finding = _only(doctor(_change(healthy, 0, group=healthy[4].group)), "groups")
    assert finding.examples == ("4: train, val",)
    assert finding.severity == "error"


def test_an_official_split_that_tears_groups_apart_is_a_warning(healthy: Manifest) -> None:
    torn = _change(healthy, 0, group=healthy[4].group)
    findings = doctor(torn, official_groups=SOURCES["celebdf_v2"].official_groups)
    finding = _only(findings, "groups")
    assert finding.severity == "warning"
    assert "the official split divides them so" in finding.what
    assert exit_code(findings) == 0
    assert exit_code(findings, strict=True) == 1
    assert exit_code(doctor(torn, official_groups=SOURCES["dfdc"].official_groups)) == 2


def _portraits(folder: Path, side: int) -> Manifest:
    """A face crop pasted into ever larger photographs, or alone."""
    picture = data.astronaut()
    (found,) = FaceDetector().detect(picture)
    face = Image.fromarray(crop_face(picture, found, size=256))
    samples = []
    for number in range(4):
        scene = Image.new("RGB", (side + 8 * number, side), (90, 120, 90))
        scene.paste(face, (0, side - face.height))
        path = folder / f"{number}.png"
        scene.save(path)
        samples.append(Sample(path, (REAL, FAKE)[number % 2], "train", str(number)))
    return Manifest(tuple(samples), folder)


def test_whole_photographs_are_told_from_face_crops(tmp_path: Path) -> None:
    finding = _only(doctor(_portraits(tmp_path, 900)), "crops")
    assert finding.severity == "warning"
    assert finding.what.startswith("these are whole pictures and no face crops: of 4 that were")
    assert "mfclip data prepare" in finding.advice
    crops = _only(doctor(_portraits(tmp_path, 256)), "crops")
    assert crops.severity == "info"
    assert "how they were cut is not known" in crops.what


def test_pictures_without_any_face_are_no_face_crops(healthy: Manifest) -> None:
    finding = _only(doctor(replace(healthy, framing=None)), "crops")
    assert (finding.severity, finding.count) == ("warning", 12)
    assert "12 of them no face at all" in finding.what


def test_crops_of_prepare_are_known_by_their_framing(healthy: Manifest) -> None:
    finding = _only(doctor(healthy), "crops")
    assert finding.what == "faces were cut by 'mfclip data prepare': margin 1.3, aligned"


def test_an_exact_copy_in_another_split(healthy: Manifest) -> None:
    shutil.copy(healthy[0].path, healthy[8].path)
    finding = _only(doctor(healthy), "exact duplicates")
    assert (finding.severity, finding.count) == ("error", 1)
    assert "0.jpg [train real]" in finding.examples[0]
    assert "8.jpg [test real]" in finding.examples[0]


def test_a_copy_called_both_real_and_fake(healthy: Manifest) -> None:
    shutil.copy(healthy[0].path, healthy[1].path)
    finding = _only(doctor(healthy), "exact duplicates")
    assert finding.severity == "error"
    assert "both real and fake" in finding.what


def test_a_copy_within_a_split_is_a_warning(healthy: Manifest) -> None:
    shutil.copy(healthy[0].path, healthy[2].path)
    findings = doctor(healthy)
    assert _only(findings, "exact duplicates").severity == "warning"
    assert (exit_code(findings), exit_code(findings, strict=True)) == (0, 1)


def test_a_copy_saved_again_in_another_split(healthy: Manifest) -> None:
    with Image.open(healthy[0].path) as image:
        image.resize((80, 80), Image.Resampling.BICUBIC).save(healthy[8].path, quality=60)
    finding = _only(doctor(healthy), "near duplicates")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "0.jpg [train real] ~ " in finding.examples[0]


def test_a_forgery_resembles_its_original_and_that_is_no_finding(healthy: Manifest) -> None:
    _draw(healthy[1].path, 0, quality=50)
    together = _change(healthy, 1, group="0")
    assert not [f for f in doctor(together) if f.check == "near duplicates"]
    assert "different labels and groups" in _only(doctor(healthy), "near duplicates").what


def test_splits_absent_or_of_one_class(healthy: Manifest) -> None:
    train = healthy.split("train")
    texts = [f.what for f in doctor(train) if f.check == "splits"]
    assert texts == ["there is no split 'val'", "there is no split 'test'"]
    reals = healthy.where(lambda s: not (s.split == "train" and s.target))
    finding = _only(doctor(reals), "one class")
    assert finding.severity == "error"
    assert finding.what == "split 'train' holds only real samples"
    tested = healthy.where(lambda s: not (s.split == "test" and s.target == 0))
    assert _only(doctor(tested), "one class").severity == "warning"


def test_imbalance(healthy: Manifest, tmp_path: Path) -> None:
    extra = []
    for number in range(20, 30):
        _draw(tmp_path / f"{number}.jpg", number)
        extra.append(Sample(tmp_path / f"{number}.jpg", FAKE, "val", str(number)))
    finding = _only(doctor(replace(healthy, samples=(*healthy, *extra))), "balance")
    assert finding.what == "split 'val' holds 2 real and 12 fake"


def test_formats_and_sizes_that_differ_by_label(healthy: Manifest) -> None:
    for number, sample in enumerate(healthy):
        if sample.target:
            small = Image.new("RGB", (50, 40), (number * 20, 0, 0))
            small.save(sample.path, format="PNG")
    findings = doctor(healthy)
    assert "for 100% of the pictures" in _only(findings, "formats").what
    assert set(_only(findings, "sizes").examples) == {"96x96: 6", "50x40: 6"}


def _with_videos(manifest: Manifest) -> tuple[Manifest, Path]:
    """Two more samples: the same little video, twice."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    paths = [manifest.root / name for name in ("whole.mp4", "other.MP4")]
    write_video(paths[0], noise, 10.0)
    shutil.copy(paths[0], paths[1])
    videos = [Sample(path, FAKE, "train", path.stem) for path in paths]
    return replace(manifest, samples=(*manifest, *videos)), paths[1]


def test_whole_videos_are_counted_and_no_finding(healthy: Manifest) -> None:
    findings = doctor(_with_videos(healthy)[0])
    assert _only(findings, "videos").what == "2 videos are listed; 2 of them open at both ends"
    assert exit_code(findings, strict=True) == 0


@pytest.mark.parametrize("damage", ["absent", "empty", "cut short"])
def test_absent_and_damaged_videos(healthy: Manifest, damage: str) -> None:
    manifest, path = _with_videos(healthy)
    data = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes(data[: len(data) // 2 if damage == "cut short" else 0])
    findings = doctor(manifest)
    finding = _only(findings, "files" if damage == "absent" else "decode")
    assert (finding.severity, finding.count) == ("error", 1)
    assert finding.examples[0].startswith(str(path))
    assert "1 of them open" in _only(findings, "videos").what
    assert exit_code(findings) == 2


def test_without_pyav_absent_videos_are_still_found(
    healthy: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, path = _with_videos(healthy)
    path.unlink()
    monkeypatch.setitem(sys.modules, "av", None)
    findings = doctor(manifest)
    assert _only(findings, "files").examples == (str(path),)
    assert "pip install 'mfclip[video]'" in _only(findings, "videos").what


@pytest.mark.slow
def test_faces_set_holds_together(faces_manifest: Path) -> None:
    unseen = read_manifest(faces_manifest).where(lambda s: s.split in {"test_unseen", "val"})
    findings = doctor(unseen, workers=2)
    assert not [f for f in findings if f.severity == "error"]
    assert not [f for f in findings if f.check in {"near duplicates", "groups"}]
