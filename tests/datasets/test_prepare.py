"""Preparation: crops, people, failures, and a run that is killed and taken up again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from hostile import corrupt_jpeg
from mfclip.data.manifest import Framing, Manifest, Sample, read_manifest
from mfclip.datasets.prepare import PrepareOptions, prepare
from mfclip.errors import ConfigError, InputError, MfclipError
from mfclip.labels import Labels
from mfclip.media.faces import TEMPLATE, FaceDetector, crop_face
from mfclip.media.images import read_image
from mfclip.media.video import write_video
from mfclip.runtime.whole_file import sweep

FAKE = Labels(True, "face_swap", "gan", "FSLSD")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def portrait(side=256):
    return Image.fromarray(data.astronaut()).resize((side, side), Image.Resampling.LANCZOS)


def two_people(shift=0):
    """A large and a small face; the picture pans by `shift` pixels."""
    scene = Image.new("RGB", (480, 256), "grey")
    scene.paste(portrait(160), (20 + shift, 40))
    scene.paste(portrait(256), (200 + shift, 0))
    return np.asarray(scene)


def sample(path, labels=Labels(False, generator="camera"), **columns):  # noqa: B008
    values = {"split": "train", "group": path.stem, **columns}
    return Sample(path=path, labels=labels, **values)


@pytest.fixture
def inputs(tmp_path):
    """A real picture, a fake video of two people, a wall, a broken file, an absent one."""
    folder = tmp_path / "raw"
    folder.mkdir()
    portrait().save(folder / "a.png")
    write_video(folder / "b.mp4", [two_people(4 * i) for i in range(5)], 5.0)
    Image.fromarray(data.brick()[:128, :128]).save(folder / "wall.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    brick = np.stack([data.brick()[:128, :128]] * 3, -1)
    write_video(folder / "wall.mp4", [brick] * 3, 5.0)
    samples = (
        sample(folder / "a.png", group="anna"),
        sample(folder / "b.mp4", FAKE, group="bob", split="test"),
        sample(folder / "wall.png"),
        sample(folder / "broken.jpg", FAKE),
        sample(folder / "wall.mp4", FAKE),
        sample(folder / "absent.png"),
    )
    return Manifest(samples, folder)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_crops_labels_and_failures(inputs, tmp_path):
    options = PrepareOptions(num_frames=3, size=96)
    report = prepare(inputs, tmp_path / "out", options)
    crops = read_manifest(report.manifest)
    assert [c.labels for c in crops] == [inputs[0].labels, *[FAKE] * 3]
    assert [(c.split, c.group) for c in crops] == [("train", "anna"), *[("test", "bob")] * 3]
    assert crops[0].video_id is None
    assert len({c.video_id for c in crops.samples[1:]}) == 1
    assert crops[1].video_id is not None
    assert report.crops == 4
    assert report.inputs == 6
    assert report.without_face == Counter({"real": 1, "FSLSD": 1})
    assert report.unreadable == Counter({"FSLSD": 1, "real": 1})
    failures = rows_of(report.failures)
    assert [(Path(r["path"]).name, r["failure"]) for r in failures] == [
        ("wall.png", "without_face"),
        ("broken.jpg", "unreadable"),
        ("wall.mp4", "without_face"),
        ("absent.png", "unreadable"),
    ]
    assert failures[2]["reason"] == "no face found in 3 frames"
    assert "not an image" in failures[1]["reason"]


def test_content_decides_whether_an_input_is_a_video(inputs, tmp_path):
    """A picture called .mp4 and a video called .jpg give what they give under their own names."""
    options = PrepareOptions(num_frames=3, size=96)
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    film, still = swapped / "film.jpg", swapped / "still.mp4"
    film.write_bytes(inputs[1].path.read_bytes())
    still.write_bytes(inputs[0].path.read_bytes())
    samples = (sample(still, group="anna"), sample(film, FAKE, group="bob"))
    report = prepare(Manifest(samples, swapped), tmp_path / "swapped_crops", options)
    named = prepare(Manifest(inputs.samples[:2], inputs.root), tmp_path / "crops", options)
    pixels = [[read_image(c.path) for c in read_manifest(r.manifest)] for r in (report, named)]
    assert len(pixels[0]) == 4
    assert all(np.array_equal(a, b) for a, b in zip(*pixels, strict=True))
    assert [c.video_id is not None for c in read_manifest(report.manifest)] == [False, *[True] * 3]


def test_any_failure_of_one_input_is_a_row(inputs, tmp_path, monkeypatch):
    """A damaged video ended the run, and every rerun; a corrupt JPEG was cut without a word."""
    pixels = np.asarray(portrait())
    inputs[2].path.with_name("cut.jpg").write_bytes(corrupt_jpeg(pixels, share=0.8))
    samples = (inputs[0], inputs[1], sample(inputs[2].path.with_name("cut.jpg")))

    def raise_anything(*_, **__):
        raise AttributeError("codec_context is None")

    monkeypatch.setattr("mfclip.datasets.prepare.frames", raise_anything)
    report = prepare(Manifest(samples, inputs.root), tmp_path / "out", PrepareOptions(size=96))
    assert report.crops == 1
    failures = rows_of(report.failures)
    assert [Path(row["path"]).name for row in failures] == ["b.mp4", "cut.jpg"]
    assert failures[0]["reason"].startswith(str(samples[1].path))
    assert "unexpected error (AttributeError: codec_context is None)" in failures[0]["reason"]
    assert "damaged or cut short (Corrupt JPEG data: premature end" in failures[1]["reason"]
    again = prepare(Manifest(samples, inputs.root), tmp_path / "out", PrepareOptions(size=96))
    assert (again.resumed, again.crops) == (3, 1)


def test_a_crash_names_what_was_in_work(inputs, tmp_path, monkeypatch):
    class Crashing:
        """A pool whose process a decoder has ended."""

        def __init__(self, *_, **__):
            pass

        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenProcessPool())
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr("mfclip.datasets.prepare.ProcessPoolExecutor", Crashing)
    with pytest.raises(MfclipError, match=r"look at what was in work: .*/a\.png, .*/b\.mp4$"):
        prepare(Manifest((inputs[0], inputs[1]), inputs.root), tmp_path / "out", workers=1)


def test_the_framing_lies_beside_the_manifest(inputs, tmp_path):
    report = prepare(Manifest((inputs[0],), tmp_path), tmp_path / "out", PrepareOptions(margin=1.5))
    assert read_manifest(report.manifest).framing == Framing(1.5, align=True)


def test_landmarks_and_masks_lie_where_the_face_lies(inputs, tmp_path):
    picture = read_image(inputs[0].path)
    (face,) = FaceDetector().detect(picture)
    left, top = (round(value) for value in face.landmarks[0])
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[top - 4 : top + 5, left - 4 : left + 5] = 255  # the left eye was forged
    Image.fromarray(mask).save(tmp_path / "mask.png")
    forged = replace(inputs[0], labels=FAKE, mask=tmp_path / "mask.png")
    report = prepare(Manifest((forged,), inputs.root), tmp_path / "out", PrepareOptions(size=128))
    (crop,) = read_manifest(report.manifest)
    assert crop.mask is not None
    inside = np.asarray(Image.open(crop.mask))
    assert inside.shape == (128, 128)
    rows, columns = np.nonzero(inside > 127)
    eye = (columns.mean() / 128, rows.mean() / 128)
    assert crop.landmarks[0] == pytest.approx(eye, abs=0.02)
    # aligned, with margin 1.3: the template of ArcFace, near enough for any face
    template = ((np.array(TEMPLATE) / 112 - 0.5) / 1.3 + 0.5).tolist()
    for place, expected in zip(crop.landmarks, template, strict=True):
        assert place == pytest.approx(expected, abs=0.05)


def test_a_mask_of_another_size_is_a_failure_with_its_reason(inputs, tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "mask.png")
    forged = replace(inputs[0], labels=FAKE, mask=tmp_path / "mask.png")
    manifest = Manifest((forged, inputs[1]), inputs.root)
    report = prepare(manifest, tmp_path / "out", PrepareOptions(num_frames=2))
    (row,) = rows_of(report.failures)
    assert "expected a mask of 256 x 256 pixels, but got 9 x 9" in row["reason"]


def test_picture_crop_is_what_the_predictor_would_cut(inputs, tmp_path):
    report = prepare(inputs.where(lambda s: s.path.name == "a.png"), tmp_path / "out")
    image = read_image(inputs[0].path)
    expected = crop_face(image, FaceDetector().detect(image)[0])
    np.testing.assert_array_equal(read_image(read_manifest(report.manifest)[0].path), expected)


def test_video_keeps_the_largest_person(inputs, tmp_path):
    video = inputs.where(lambda s: s.path.name == "b.mp4")
    one = prepare(video, tmp_path / "one", PrepareOptions(num_frames=5))
    both = prepare(video, tmp_path / "both", PrepareOptions(num_frames=5, every_face=True))
    kept, found = rows_of(tmp_path / "one" / "crops.csv"), rows_of(tmp_path / "both" / "crops.csv")
    assert one.crops == 5
    assert both.crops == 10
    assert len({row["person"] for row in kept}) == 1
    assert all(float(row["left"]) > 200 for row in kept)
    assert [float(row["seconds"]) for row in kept] == [0, 0.2, 0.4, 0.6, 0.8]
    lefts = {}
    for row in found:
        lefts.setdefault(row["person"], []).append(float(row["left"]))
    # the camera pans 4 pixels a frame and nobody changes number
    for places in lefts.values():
        np.testing.assert_allclose(np.diff(places), 4, atol=3)


@pytest.mark.parametrize("quality", [None, 90])
def test_real_and_fake_are_stored_alike(tmp_path, quality):
    for name in ("a.jpg", "b.png"):
        portrait().save(tmp_path / name)
    rows = (sample(tmp_path / "a.jpg"), sample(tmp_path / "b.png", FAKE))
    report = prepare(Manifest(rows, tmp_path), tmp_path / "out", PrepareOptions(quality=quality))
    facts = []
    for crop in read_manifest(report.manifest):
        with Image.open(crop.path) as image:
            facts.append((image.format, getattr(image, "quantization", None), sorted(image.info)))
    assert facts[0] == facts[1]
    assert facts[0][0] == ("PNG" if quality is None else "JPEG")


def test_second_run_does_nothing_and_a_changed_input_is_done_anew(inputs, tmp_path):
    out = tmp_path / "out"
    options = PrepareOptions(num_frames=2, size=64)
    first = prepare(inputs, out, options)
    before = stamps(out / "crops")
    again = prepare(inputs, out, options)
    assert (first.resumed, again.resumed) == (0, 6)
    assert stamps(out / "crops") == before
    portrait(250).save(inputs[2].path)
    mended = prepare(inputs, out, options)
    assert mended.resumed == 5
    assert mended.crops == first.crops + 1
    assert before.items() <= stamps(out / "crops").items()


def test_other_options_are_refused(inputs, tmp_path):
    prepare(inputs, tmp_path / "out", PrepareOptions(num_frames=1))
    with pytest.raises(ConfigError, match=r"margin=1.3 there, 1.5 now"):
        prepare(inputs, tmp_path / "out", PrepareOptions(num_frames=1, margin=1.5))


def test_no_face_at_all(inputs, tmp_path):
    walls = inputs.where(lambda s: s.path.stem == "wall")
    with pytest.raises(InputError, match="no face in any of 2 inputs"):
        prepare(walls, tmp_path / "out")
    assert len(rows_of(tmp_path / "out" / "failures.csv")) == 2


@pytest.mark.parametrize("wrong", [{"num_frames": 0}, {"margin": 0.0}, {"quality": 101}])
def test_impossible_options(wrong):
    with pytest.raises(ConfigError, match="expected"):
        PrepareOptions(**wrong)


def stamps(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


RUN = """
import sys
from pathlib import Path
from mfclip.datasets.prepare import PrepareOptions
from mfclip.data.manifest import read_manifest
from mfclip.datasets.prepare import prepare

if __name__ == "__main__":
    options = PrepareOptions(size=64)
    prepare(read_manifest(Path(sys.argv[1])), Path(sys.argv[2]), options, workers=2)
"""


def wait_for_end(group):
    """The processes of a killed run end with it."""
    deadline = time.monotonic() + 60
    while alive(group):
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
            pytest.fail("processes of the killed run still live after a minute")
        time.sleep(0.05)


def alive(group):
    """Processes of a group that are not merely waiting to be counted as dead."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux, for /proc")
def test_killed_run_is_taken_up(tmp_path):
    """SIGKILL half-way; the second run redoes nothing and ends with the files of a whole run."""
    (tmp_path / "raw").mkdir()
    for number in range(24):
        turned = portrait(600).rotate(number / 4, Image.Resampling.BICUBIC)
        turned.save(tmp_path / "raw" / f"{number:02}.png")
    rows = tuple(sample(tmp_path / "raw" / f"{n:02}.png") for n in range(24))
    Manifest(rows, tmp_path).write(tmp_path / "raw.csv")
    (tmp_path / "run.py").write_text(RUN)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "run.py", "raw.csv"]
    process = subprocess.Popen([*command, "killed"], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("records/*/*.json"))) < 5:
        assert time.monotonic() < deadline, "no input was finished in two minutes"
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    assert len(alive(process.pid)) >= 3
    process.kill()
    process.wait(60)
    wait_for_end(process.pid)
    done = {p.stem for p in killed.glob("records/*/*.json")}
    assert 5 <= len(done) < 24
    assert not (killed / "manifest.csv").exists()
    before = stamps(killed / "records")
    finished = {name: t for name, t in stamps(killed / "crops").items() if name[:15] in done}
    subprocess.run([*command, "killed"], cwd=tmp_path, check=True)
    assert before.items() <= stamps(killed / "records").items()
    assert finished
    assert finished.items() <= stamps(killed / "crops").items()

    prepare(read_manifest(tmp_path / "raw.csv"), whole, PrepareOptions(size=64))
    for path in killed.rglob(".*"):
        os.utime(path, (0, 0))
    sweep(killed, recursive=True)  # what the killed run left is known as such
    assert contents(whole) == contents(killed)
    assert json.loads((whole / "options.json").read_text())["size"] == 64


def test_the_documented_figures_are_the_published_ones():
    """The table of docs/faces.md, and what `benchmarks/prepare.py` found about a killed run."""
    root = Path(__file__).resolve().parents[2]
    stored = json.loads((root / "benchmarks/results/prepare.json").read_text())
    few, many = stored["runs"]["n"], stored["runs"]["4n"]
    page = (root / "docs/faces.md").read_text(encoding="utf-8")
    table = page.partition("<!-- prepare -->")[2].partition("<!-- /prepare -->")[0]
    for name, unit in (("peak_main_mib", "MiB"), ("peak_worker_mib", "MiB")):
        assert f"| {few[name]:.1f} {unit} | {many[name]:.1f} {unit} |" in table
    seconds = "processor_seconds"
    assert f"| {few[seconds]:.1f} s | {many[seconds]:.1f} s |" in table
    assert many["pictures"] == 4 * few["pictures"]
    assert stored["memory_growth_main_mib"] < 5
    assert stored["killed"]["done_twice"] == 0
    assert stored["killed"]["same_files_as_whole_run"]


def resident():
    """Memory of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux, for /proc")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    used = []
    for count in (10, 40):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            portrait().save(folder / f"{number}.png")
        rows = tuple(sample(folder / f"{number}.png") for number in range(count))
        assert prepare(Manifest(rows, folder), folder / "out").crops == count
        used.append(resident())
    assert used[1] - used[0] < 5
