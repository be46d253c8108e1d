"""Manifests there and back, their questions answered by hand, and every way they can be wrong."""

from __future__ import annotations

import csv
import json
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mfclip.config import build_config
from mfclip.data.manifest import (
    OPTIONAL,
    REQUIRED,
    Framing,
    Manifest,
    Sample,
    check_files,
    check_groups,
    read_manifest,
    settle_framing,
)
from mfclip.errors import ConfigError, ManifestError
from mfclip.labels import Labels

ROWS = [
    {
        "path": "fake/a,1.jpg",
        "label": "fake",
        "manipulation": "face_swap",
        "family": "gan",
        "generator": "FSLSD",
        "split": "train",
        "group": "anna",
        "video_id": "v7",
    },
    {
        "path": "real/ü.jpg",
        "label": "real",
        "manipulation": "",
        "family": "none",
        "generator": "FFHQ",
        "split": "test",
        "group": "",
        "video_id": "",
    },
]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, str]]], None]] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


def expected(root: Path) -> tuple[Sample, ...]:
    """`ROWS`, by hand."""
    fake = Labels(True, "face_swap", "gan", "FSLSD")
    return (
        Sample(root / "fake/a,1.jpg", fake, "train", "anna", "v7"),
        Sample(root / "real/ü.jpg", Labels(False, generator="FFHQ"), "test", "real/ü.jpg"),
    )


def changed(**columns: str) -> list[dict[str, str]]:
    """`ROWS` with the second row changed."""
    return [ROWS[0], ROWS[1] | columns]


@pytest.mark.parametrize("suffix", WRITERS)
def test_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    WRITERS[suffix](path, ROWS)
    manifest = read_manifest(path)
    assert manifest.samples == expected(tmp_path)
    assert [sample.target for sample in manifest] == [1, 0]


@pytest.mark.parametrize("nothing", [None, float("nan"), ""])
def test_group_defaults_to_the_video_then_to_the_path(tmp_path: Path, nothing: object) -> None:
    """Data frames write "nothing" in several ways; none of them is a group of its own."""
    rows = [
        ROWS[0] | {"group": nothing},
        ROWS[0] | {"group": nothing, "video_id": nothing},
    ]
    path = tmp_path / "m.jsonl"
    write_jsonl(path, rows)
    manifest = read_manifest(path)
    assert [sample.group for sample in manifest] == ["v7", "fake/a,1.jpg"]
    assert [sample.video_id for sample in manifest] == ["v7", None]


@pytest.mark.parametrize("suffix", WRITERS)
def test_there_and_back(tmp_path: Path, suffix: str) -> None:
    manifest = Manifest(expected(tmp_path), tmp_path)
    path = tmp_path / f"m{suffix}"
    manifest.write(path)
    again = read_manifest(path)
    assert again == manifest
    assert again.fingerprint == manifest.fingerprint
    assert list(tmp_path.iterdir()) == [path]  # no partial file is left


def test_columns_as_written(tmp_path: Path) -> None:
    Manifest(expected(tmp_path), tmp_path).write(tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (*REQUIRED, *OPTIONAL)
    assert rows[0] == ROWS[0]


def test_root_and_absolute_paths(tmp_path: Path) -> None:
    write_csv(tmp_path / "m.csv", changed(path=str(tmp_path / "elsewhere.png")))
    manifest = read_manifest(tmp_path / "m.csv", root=tmp_path / "data")
    paths = [sample.path for sample in manifest]
    assert paths == [tmp_path / "data/fake/a,1.jpg", tmp_path / "elsewhere.png"]


def test_windows_paths_byte_order_mark_and_further_columns(tmp_path: Path) -> None:
    text = "path,label,manipulation,family,generator,split,note\nfake\\a.png,1,,,,val,x\n"
    (tmp_path / "m.csv").write_text(text, encoding="utf-8-sig")
    sample = read_manifest(tmp_path / "m.csv")[0]
    assert sample == Sample(tmp_path / "fake/a.png", Labels(True), "val", "fake\\a.png")


def test_short_and_long_csv_rows(tmp_path: Path) -> None:
    text = (
        "path,label,manipulation,family,generator,split,group\na.png,0,,,,val\nb.png,0,,,,val,g,?\n"
    )
    (tmp_path / "m.csv").write_text(text)
    assert [sample.group for sample in read_manifest(tmp_path / "m.csv")] == ["a.png", "g"]


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"label": "maybe"},
            r"row 2: expected label to be one of \[real, fake, 0, 1\], but got",
        ),
        ({"label": "fake", "manipulation": "swap"}, "row 2: expected manipulation to be one of"),
        ({"manipulation": "face_swap"}, "row 2: a real face has no manipulation and no family"),
        ({"path": ""}, "row 2: the path is empty"),
        ({"split": ""}, "row 2: the split is empty; expected train, val, test or another name"),
    ],
)
def test_wrong_rows(tmp_path: Path, suffix: str, columns: dict[str, str], message: str) -> None:
    path = tmp_path / f"m{suffix}"
    WRITERS[suffix](path, changed(**columns))
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_missing_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    WRITERS[suffix](path, [{"path": "a.png", "label": "real", "family": "", "split": "test"}])
    message = r"lacks the column\(s\) manipulation, generator; .* found path, label, family, split"
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_damaged_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"\xff\xfe\x00 neither text nor table")
    with pytest.raises(ManifestError, match=f"cannot be read as {suffix[1:].upper()}"):
        read_manifest(path)


def test_json_lines_that_are_no_objects(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("[1, 2]\n")
    with pytest.raises(ManifestError, match=r"row 1: expected a JSON object, but got \[1, 2\]"):
        read_manifest(tmp_path / "m.jsonl")


def test_no_rows_no_file_no_known_ending(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(",".join(REQUIRED) + "\n")
    with pytest.raises(ManifestError, match=r"m\.csv holds no rows"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(ManifestError, match=r"no manifest at .*gone\.csv; expected a \.csv"):
        read_manifest(tmp_path / "gone.csv")
    with pytest.raises(ManifestError, match="no manifest at"):
        read_manifest(tmp_path)
    (tmp_path / "m.txt").touch()
    with pytest.raises(ManifestError, match=r"\.parquet manifest, but got m\.txt"):
        read_manifest(tmp_path / "m.txt")


def test_write_refuses_other_endings_and_unwritable_places(tmp_path: Path) -> None:
    manifest = Manifest(expected(tmp_path), tmp_path)
    with pytest.raises(ManifestError, match=r"ending in \.csv, \.jsonl, \.parquet, but got m\.xls"):
        manifest.write(tmp_path / "m.xls")
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match=r"cannot write .*m\.csv"):
        manifest.write(tmp_path / "file" / "m.csv")


def test_write_cut_short_keeps_the_old_manifest(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    manifest = Manifest(expected(tmp_path), tmp_path)
    path = tmp_path / "m.csv"
    manifest.write(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        with pytest.raises(ManifestError, match=r"cannot write .*m\.csv \(File too large\)"):
            manifest.split("train").write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_manifest(path) == manifest
    assert list(tmp_path.iterdir()) == [path]


def test_split_counts_and_where(tmp_path: Path) -> None:
    manifest = Manifest(expected(tmp_path), tmp_path)
    assert manifest.split("train").samples == manifest.samples[:1]
    with pytest.raises(ManifestError, match="no sample is in split 'val'; splits found: test, t"):
        manifest.split("val")
    assert manifest.counts() == Counter({"FSLSD": 1, "real": 1})
    assert manifest.counts("family") == Counter({"gan": 1, "real": 1})
    assert len(manifest.where(lambda s: s.target == 0)) == 1


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    here = Manifest(expected(tmp_path), tmp_path)
    there = Manifest(expected(tmp_path / "copy"), tmp_path / "copy")
    swapped = Manifest(here.samples[::-1], tmp_path)
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint != swapped.fingerprint
    assert here.fingerprint != here.split("test").fingerprint


def test_check_files(tmp_path: Path) -> None:
    manifest = Manifest(expected(tmp_path), tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "ü.jpg").touch()
    assert check_files(manifest) == [tmp_path / "fake/a,1.jpg"]


def test_check_groups() -> None:
    places = [("train", "anna"), ("test", "anna"), ("train", "ben"), ("train", "ben")]
    samples = [Sample(Path(), Labels(False), split, group) for split, group in places]
    assert check_groups(samples) == {"anna": ["test", "train"]}


def test_faces(faces_manifest: Path) -> None:
    manifest = read_manifest(faces_manifest)
    with faces_manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(manifest) == len(rows) > 0
    assert Counter(s.target for s in manifest) == Counter(int(r["label"] == "fake") for r in rows)
    assert check_files(manifest) == []
    assert check_groups(manifest) == {}


@pytest.mark.parametrize(
    ("heading", "told"),
    [
        ("path,label", "lacks the column(s) manipulation, family, generator, split; expected "),
        ("path;label;split", "has semicolons between its columns, not commas; expected path, "),
        ("path\tlabel", "has tabs between its columns, not commas; expected path, "),
    ],
)
def test_other_tables_are_sent_to_the_command_that_reads_them(
    tmp_path: Path, heading: str, told: str
) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"{heading}\n0.jpg,real\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert f"{path} {told}" in str(caught.value)
    assert f"mfclip data scan table {path} --out manifest.csv" in str(caught.value)


def framed(folder: Path, framing: Framing | None) -> Manifest:
    sample = Sample(folder / "a.png", Labels(False), "train", "a")
    return Manifest((sample,), folder, framing)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_framing_goes_with_the_manifest_and_its_parts(tmp_path: Path, ending: str) -> None:
    framing = Framing(1.15, align=False)
    framed(tmp_path, framing).write(tmp_path / f"m{ending}")
    read = read_manifest(tmp_path / f"m{ending}")
    assert read.framing == read.split("train").framing == framing
    assert json.loads((tmp_path / "framing.json").read_text()) == {
        "face_margin": 1.15,
        "face_align": False,
    }
    framed(tmp_path, framing).write(tmp_path / "again.csv")  # the same is no contradiction
    with pytest.raises(ManifestError, match=r"cut with margin 1.15, not aligned, and these .* 1.3"):
        framed(tmp_path, Framing(1.3, align=True)).write(tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()


def test_sets_prepared_before_there_was_a_framing_file_have_one(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text('{"margin": 1.4, "align": true, "size": 256}')
    framed(tmp_path, None).write(tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").framing == Framing(1.4, align=True)


def test_another_programs_options_are_no_framing(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text('{"colour": "blue"}')
    framed(tmp_path, None).write(tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").framing is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"face_margin": "wide"}', '{"face_margin": -1, "face_align": true}']
)
def test_a_damaged_framing_is_not_passed_over(tmp_path: Path, text: str) -> None:
    framed(tmp_path, None).write(tmp_path / "m.csv")
    (tmp_path / "framing.json").write_text(text)
    with pytest.raises(ManifestError, match=r"framing.json is damaged; expected .* mend or remove"):
        read_manifest(tmp_path / "m.csv")


def test_settings_take_the_framing_or_stop(tmp_path: Path) -> None:
    manifest = framed(tmp_path, Framing(1.15, align=False))
    taken = settle_framing(build_config({}).data, manifest)
    assert (taken.face_margin, taken.face_align) == (1.15, False)
    same = {"data": {"face_margin": 1.15, "face_align": False}}
    assert settle_framing(build_config(same).data, manifest).face_margin == 1.15
    for wrong in ({"face_margin": 1.3}, {"face_align": True}):
        with pytest.raises(
            ConfigError, match=rf"data.{next(iter(wrong))} = .* contradicts the data"
        ):
            settle_framing(build_config({"data": wrong}).data, manifest)
    unknown = settle_framing(
        build_config({"data": {"face_margin": 2.0}}).data, framed(tmp_path, None)
    )
    assert unknown.face_margin == 2.0


def test_framing_that_equals_the_default_leaves_the_fingerprint_of_a_run(tmp_path: Path) -> None:
    config = build_config({"train": {"epochs": 3}})
    data = settle_framing(config.data, framed(tmp_path, Framing(1.3, align=True)))
    assert config.model_copy(update={"data": data}).fingerprint == config.fingerprint


FIVE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_masks_sources_and_landmarks_there_and_back(tmp_path: Path, ending: str) -> None:
    plain = Sample(tmp_path / "r.png", Labels(False), "train", "a")
    full = Sample(
        tmp_path / "f.png", Labels(True), "train", "a", None, tmp_path / "m.png", "r.png", FIVE
    )
    manifest = Manifest((plain, full), tmp_path)
    manifest.write(tmp_path / f"m{ending}")
    assert read_manifest(tmp_path / f"m{ending}").samples == manifest.samples


def test_without_the_extra_columns_files_and_fingerprints_stay_what_they_were(
    tmp_path: Path,
) -> None:
    plain = framed(tmp_path, None)
    plain.write(tmp_path / "m.csv")
    heading = (tmp_path / "m.csv").read_text().splitlines()[0]
    assert heading == ",".join((*REQUIRED, *OPTIONAL))
    known = Manifest((replace(plain[0], landmarks=FIVE),), tmp_path)
    assert known.fingerprint != plain.fingerprint


@pytest.mark.parametrize("text", ["0.5 0.5", "a b c d e f g h i j", "9 0.1 " * 5])
def test_landmarks_that_are_no_five_points_are_refused(tmp_path: Path, text: str) -> None:
    rows = [{**ROWS[0], "landmarks": text}]
    write_csv(tmp_path / "m.csv", rows)
    with pytest.raises(ManifestError, match=r"row 1: expected landmarks as 5 points"):
        read_manifest(tmp_path / "m.csv")
