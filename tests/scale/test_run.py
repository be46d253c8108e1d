"""Runs in this process: scores are the predictor's own, and however a run ends, another goes on."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from films import draw, encode
from mfclip.cli.app import app
from mfclip.data.manifest import read_manifest
from mfclip.data.shards import write_shards
from mfclip.errors import ConfigError
from mfclip.evaluate.scores import read_scores
from mfclip.predict.faces import WholePicture
from mfclip.predict.mixed import judge_files
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.scale import place as places
from mfclip.scale.loop import Limits, LocalPool
from mfclip.scale.part import FailedPart, Part, PartResult
from mfclip.scale.place import Place
from mfclip.scale.run import join, read_status
from mfclip.scale.worker import Worker
from mfclip.weights import read_weights, write_weights

ROWS, ABSENT = 48, 17


def table(folder: Path, name: str = "out") -> list[dict[str, Any]]:
    """All rows of a run, by way of `join`."""
    out = folder / f"{name}.parquet"
    join(Place(str(folder / name)), out)
    rows: list[dict[str, Any]] = pq.read_table(out).to_pylist()
    return rows


def expected(weights: Path, manifest: Path) -> dict[str, float | None]:
    """Scores by the predictor itself, a picture at a time."""
    predictor = Predictor.load(weights, device="cpu", finder=WholePicture(), engine="torch")
    found = {}
    for sample in read_manifest(manifest):
        (result,) = predictor.predict(sample.path)
        found[sample.path.name] = result.score if isinstance(result, Prediction) else None
    return found


def check(folder: Path, weights: Path, manifest: Path, name: str = "out") -> None:
    """What holds of every run, however it went: all rows, once, right, and no stray files."""
    rows = table(folder, name)
    assert [row["row"] for row in rows] == list(range(ROWS))
    wanted = expected(weights, manifest)
    assert [row["path"] for row in rows] == list(wanted)
    for row in rows:
        assert row["score"] == pytest.approx(wanted[row["path"]], abs=1e-6)
    assert [row["row"] for row in rows if row["record"] == "error"] == [ABSENT]
    assert "no such file" in rows[ABSENT]["error"]
    files = sorted(path.name for path in (folder / name).iterdir())
    plan = [json.loads(line) for line in (folder / name / "parts.jsonl").read_text().splitlines()]
    assert files == sorted(["job.json", "parts.jsonl", *(part["name"] for part in plan)])


def test_scores_are_those_of_the_predictor(
    score: Callable[..., Any], weights: Path, manifest: Path, tmp_path: Path
) -> None:
    reports = score(manifest)
    assert [each.num_errors for each in reports] == [0, 0, 1, 0, 0, 0]
    check(tmp_path, weights, manifest)
    assert score(manifest) == []  # a second run finds everything done


def test_the_table_as_csv_is_what_evaluation_reads(
    score: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    score(manifest)
    join(Place(str(tmp_path / "out")), tmp_path / "scores.csv")
    read = read_scores(tmp_path / "scores.csv")
    rows = read_manifest(manifest)
    assert [each.labels for each in read] == [each.labels for each in rows]
    assert [each.split for each in read] == [each.split for each in rows]
    assert [each.score for each in read] == [row["score"] for row in table(tmp_path)]


def test_shards_give_the_scores_of_their_pictures(
    score: Callable[..., Any], made_faces: Path, weights: Path, tmp_path: Path
) -> None:
    write_shards(read_manifest(made_faces), tmp_path / "shards", samples_per_shard=20)
    score(tmp_path / "shards")
    rows = table(tmp_path)
    wanted = expected(weights, made_faces)
    assert {row["path"]: row["score"] for row in rows} == pytest.approx(wanted, abs=1e-6)
    assert [row["part"] for row in rows] == [0] * 20 + [1] * 20 + [2] * 8
    labels = {s.path.name: s.target for s in read_manifest(made_faces)}
    assert {row["path"]: row["target"] for row in rows} == labels


def test_a_damaged_shard_fails_alone(
    score: Callable[..., Any], made_faces: Path, tmp_path: Path
) -> None:
    write_shards(read_manifest(made_faces), tmp_path / "shards", samples_per_shard=20)
    shard = tmp_path / "shards" / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    reports = score(tmp_path / "shards")
    assert [type(each) for each in reports] == [PartResult, FailedPart, PartResult]
    assert "absent or damaged" in reports[1].reason
    status = read_status(Place(str(tmp_path / "out")))
    assert [(f.number, f.start, f.stop) for f in status.failed] == [(1, 20, 40)]
    with pytest.raises(ConfigError, match="lacks 1 of 3 parts, the first with rows 20 to 39"):
        table(tmp_path)


def test_a_row_that_occurs_twice_is_two_rows(
    score: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    """One after the other, too, where a path alone would not tell them apart."""
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *[lines[1]] * 3, *[lines[2]] * 2]) + "\n")
    score(manifest)
    rows = table(tmp_path)
    assert [(row["row"], row["path"], row["face"]) for row in rows] == [
        (0, "0.png", 1), (1, "0.png", 1), (2, "0.png", 1), (3, "1.png", 1), (4, "1.png", 1),
    ]  # fmt: skip


def test_faces_are_found_and_numbered(tmp_path: Path) -> None:
    """With the face step, on the photographs that come along: as `mfclip predict` says."""
    photos = Path("src/mfclip/assets/demo/photo")
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    words = ["score", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--engine", "torch"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = {row["path"]: row for row in table(tmp_path)}
    predictor = Predictor.load(device="cpu", engine="torch")
    for path in sorted(photos.iterdir()):
        (wanted,) = predictor.predict(path)
        assert isinstance(wanted, Prediction)
        assert wanted.face is not None
        found = rows.pop(path.name)
        assert found["score"] == pytest.approx(wanted.score, abs=1e-6)
        box = tuple(found[side] for side in ("left", "top", "right", "bottom"))
        face = wanted.face
        assert box == (face.left, face.top, face.right, face.bottom)
        assert (found["face"], found["verdict"]) == (1, wanted.verdict)
    assert rows["notes.txt"]["record"] == "skipped"


def test_a_video_is_a_row_a_face_and_one_for_itself(
    score: Callable[..., Any], weights: Path, tmp_path: Path
) -> None:
    frames = [draw((8 + 2 * n, 20, 40, 90 + 9 * n)) for n in range(8)]
    (tmp_path / "films").mkdir()
    encode(tmp_path / "films" / "a.mp4", frames)
    score(tmp_path / "films", frames=5)
    rows = table(tmp_path)
    assert [row["record"] for row in rows] == ["track", "video"]
    predictor = Predictor.load(weights, device="cpu", finder=WholePicture(), engine="torch")
    (wanted,) = judge_files(predictor, [tmp_path / "films" / "a.mp4"], count=5)
    assert isinstance(wanted, VideoPrediction)
    for row in rows:
        assert row["score"] == pytest.approx(wanted.score, abs=1e-6)
        assert (row["num_frames"], row["face"], row["row"]) == (5, 1, 0)


class StoppedError(Exception):
    """Ends a run from within, as a kill would."""


def test_what_is_done_is_not_done_again(
    start: Callable[..., Any], weights: Path, manifest: Path, tmp_path: Path
) -> None:
    job, scoring = start(manifest)

    def stop(report: object) -> None:
        if isinstance(report, PartResult) and report.number == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        scoring.score(LocalPool(job), Limits(), stop)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert len(kept) == 3
    assert len(read_status(Place(str(tmp_path / "out"))).missing) == 3
    _, again = start(manifest)
    assert again.missing == [3, 4, 5]
    again.score(LocalPool(job), Limits(), lambda _: None)
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    check(tmp_path, weights, manifest)


def command(manifest: Path, weights: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "mfclip", "score", str(manifest), "--out", str(out), "--weights",
        str(weights), "--engine", "torch", "--rows-per-part", "8", "--device", "cpu",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_partial(
    weights: Path, manifest: Path, tmp_path: Path
) -> None:
    """SIGKILL once a part is there; then the same command goes on."""
    words = [*command(manifest, weights, tmp_path / "out"), "--batch-size", "1"]
    running = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((tmp_path / "out").glob("part-*")) and time.monotonic() < until:
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    there = list((tmp_path / "out").glob("part-*"))
    assert 1 <= len(there) < 6
    for path in there:
        assert pq.read_table(path).num_rows == 8
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # a picture is absent
    for path in (tmp_path / "out").glob(".*"):  # half a file may be left for a minute
        path.unlink()
    check(tmp_path, weights, manifest)


@pytest.mark.slow
def test_two_drivers_at_once_end_in_one_right_result(
    weights: Path, manifest: Path, tmp_path: Path
) -> None:
    words = command(manifest, weights, tmp_path / "out")
    both = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait(timeout=300) for each in both] == [1, 1]
    check(tmp_path, weights, manifest)


def test_a_changed_manifest_is_never_mixed_with_the_old_one(
    score: Callable[..., Any], weights: Path, manifest: Path, tmp_path: Path
) -> None:
    score(manifest)
    before = table(tmp_path)
    lines = manifest.read_text().splitlines()
    lines[21] = lines[1]  # row 20 becomes the picture of row 0
    manifest.write_text("\n".join(lines) + "\n")
    assert [each.number for each in score(manifest)] == [2]
    status = read_status(Place(str(tmp_path / "out")))
    assert len(status.stray) == 1
    assert status.stray[0].startswith("part-0000002-")
    after = table(tmp_path)
    changed = [row for row, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed == [20]
    assert after[20]["score"] == before[0]["score"]


def test_other_weights_or_settings_are_refused(
    score: Callable[..., Any], weights: Path, manifest: Path, tmp_path: Path
) -> None:
    score(manifest)
    file = read_weights(weights)
    tensors = {name: tensor.clone() for name, tensor in file.tensors.items()}
    next(iter(tensors.values())).view(-1)[0] += 1
    write_weights(replace(file, tensors=tensors), tmp_path / "other.safetensors")
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    for changes, told in (
        ({"weights": str(tmp_path / "other.safetensors")}, "weights_sha256"),
        ({"rows_per_part": 9}, "rows_per_part"),
        ({"faces": "detect"}, "faces"),
    ):
        with pytest.raises(ConfigError, match=rf"other weights or settings \(.*{told}.*folder$"):
            score(manifest, **changes)
    assert {path.name for path in (tmp_path / "out").iterdir()} == kept
    shutil.copy(weights, tmp_path / "moved.safetensors")  # the same weights in another place
    assert score(manifest, weights=str(tmp_path / "moved.safetensors")) == []


def test_a_score_that_is_not_finite_is_an_error(
    start: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    job, scoring = start(manifest)
    predictor = job.load()
    with torch.no_grad():
        for tensor in predictor.engine._graph.parameters():
            tensor.fill_(float("nan"))
    reports: list[Any] = []
    scoring.score(LocalPool(job, lambda told: Worker(told, predictor)), Limits(), reports.append)
    assert [each.num_errors for each in reports] == [8] * 6
    rows = table(tmp_path)
    assert all(row["score"] is None for row in rows)
    assert "no finite score" in rows[0]["error"]


def test_a_disk_that_refuses_fails_the_part_and_leaves_no_half_file(
    start: Callable[..., Any], weights: Path, manifest: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The system itself refuses: no file may grow beyond 64 bytes while part 1 is written."""
    monkeypatch.setattr(places, "PAUSE", 0.0)
    job, scoring = start(manifest)

    class Cramped(Worker):
        def score(self, part: Part) -> PartResult:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            if part.number == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
            try:
                return super().score(part)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    reports: list[object] = []
    scoring.score(LocalPool(job, Cramped), Limits(), reports.append)
    (failed,) = [each for each in reports if isinstance(each, FailedPart)]
    assert failed.number == 1
    assert "File too large" in failed.reason
    assert len(list((tmp_path / "out").glob("part-*"))) == 5
    assert not list((tmp_path / "out").glob(".*"))
    _, again = start(manifest)
    again.score(LocalPool(job), Limits(), reports.append)
    check(tmp_path, weights, manifest)


def test_a_damaged_part_is_named(score: Callable[..., Any], manifest: Path, tmp_path: Path) -> None:
    score(manifest)
    part = sorted((tmp_path / "out").glob("part-*"))[3]
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    with pytest.raises(ConfigError, match=f"{part.name} is damaged"):
        table(tmp_path)
    part.write_bytes(sorted((tmp_path / "out").glob("part-*"))[2].read_bytes())
    with pytest.raises(ConfigError, match=f"{part.name} holds other rows than 24 to 31"):
        table(tmp_path)


def test_everything_by_address(
    score: Callable[..., Any], weights: Path, manifest: Path, tmp_path: Path
) -> None:
    """Manifest, pictures and results by address; fsspec's own store in memory stands for one."""
    store = fsspec.filesystem("memory")
    for path in manifest.parent.iterdir():
        store.pipe_file(f"/bucket/faces/{path.name}", path.read_bytes())
    score("memory://bucket/faces/manifest.csv", "memory://bucket/out")
    score(manifest)
    join(Place("memory://bucket/out"), tmp_path / "there.parquet")
    there = pq.read_table(tmp_path / "there.parquet").to_pylist()
    here = table(tmp_path)
    for far, near in zip(there, here, strict=True):
        assert {**far, "error": None} == {**near, "error": None}
    assert there[ABSENT]["record"] == "error"
    assert score("memory://bucket/faces/manifest.csv", "memory://bucket/out") == []
