"""Sources: the same rows give the same parts, and nothing grows with their number."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mfclip.data.manifest import read_manifest
from mfclip.data.shards import write_shards
from mfclip.errors import ConfigError, ManifestError
from mfclip.scale.part import Part, Row, digest_rows
from mfclip.scale.source import open_source, split


def parts_of(name: Path | str, rows: int = 5) -> list[Part]:
    return list(open_source(str(name), rows_per_part=rows).parts())


@pytest.fixture
def table(tmp_path: Path) -> list[dict[str, str]]:
    rows = [
        {"path": f'a/{n}, "b"\nc.jpg', "label": ("real", "fake")[n % 2], "group": f"g{n}"}
        for n in range(13)
    ]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["path", "label", "group"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=4)
    return rows


def test_csv_json_lines_and_parquet_give_the_same_parts(
    table: list[dict[str, str]], tmp_path: Path
) -> None:
    found = [parts_of(tmp_path / name) for name in ("t.csv", "t.jsonl", "t.parquet")]
    assert found[0] == found[1] == found[2]
    assert [(p.number, p.start, p.num_rows) for p in found[0]] == [(0, 0, 5), (1, 5, 5), (2, 10, 3)]
    rows = [row for part in found[0] for row in part.rows]
    assert [(r.path, r.label, r.group) for r in rows] == [
        (r["path"], r["label"], r["group"]) for r in table
    ]


def test_names_tell_rows_and_settings_apart() -> None:
    rows = [Row("a", "b"), Row("ab"), Row("a", "", "b"), Row("a")]
    digests = {digest_rows([row]) for row in rows} | {digest_rows([*rows[:2]]), digest_rows([])}
    assert len(digests) == 6
    (part,) = split(rows, 4)
    assert part.name("k1") != part.name("k2")
    assert part.name("k1") == next(split(rows, 4)).name("k1")


def test_a_change_of_one_row_changes_one_part(table: list[dict[str, str]], tmp_path: Path) -> None:
    before = parts_of(tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text(encoding="utf-8-sig").replace("g7", "g700")
    (tmp_path / "t.csv").write_text(text)
    after = parts_of(tmp_path / "t.csv")
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_what_is_wrong_is_named_with_its_row(tmp_path: Path) -> None:
    place = tmp_path / "bad.csv"
    for text, expected in (
        ("path,label\na,real\nb,maybe\n", r"row 2: expected label .* got 'maybe'"),
        ('path\na\n""\n', "row 2: the path is empty"),
        ("file\na\n", "row 1: expected a column 'path', but found file"),
    ):
        place.write_text(text)
        with pytest.raises(ManifestError, match=expected):
            parts_of(place)
    with pytest.raises(ManifestError, match="no manifest at"):
        parts_of(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"expected a manifest .*, but got"):
        parts_of(tmp_path / "none")
    place.with_suffix(".parquet").write_bytes(b"nothing")
    with pytest.raises(ManifestError, match="cannot be read as PARQUET"):
        parts_of(place.with_suffix(".parquet"))


def test_a_folder_is_walked_in_order_here_and_in_a_store(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("b.jpg", "a/2.jpg", "a/1.jpg", "c/d/x.mp4", ".hidden/y.jpg", "a/.z.jpg"):
        path = tmp_path / "f" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        store.pipe_file(f"/walked/{name}", b"x")
    here = [row.path for part in parts_of(tmp_path / "f") for row in part.rows]
    assert here == ["a/1.jpg", "a/2.jpg", "b.jpg", "c/d/x.mp4"]
    there = [row.path for part in parts_of("memory://walked") for row in part.rows]
    assert sorted(there) == here


def test_a_shard_is_a_part(made_faces: Path, tmp_path: Path) -> None:
    write_shards(read_manifest(made_faces), tmp_path / "s", samples_per_shard=20)
    found = parts_of(tmp_path / "s")
    assert [(p.start, p.num_rows, p.rows) for p in found] == [
        (0, 20, ()),
        (20, 20, ()),
        (40, 8, ()),
    ]
    first = tmp_path / "s" / "000000.tar"
    first.write_bytes(first.read_bytes() + bytes(512))
    assert [a == b for a, b in zip(found, parts_of(tmp_path / "s"), strict=True)] == [
        False, True, True,
    ]  # fmt: skip
    first.unlink()
    with pytest.raises(ManifestError, match="no such shard"):
        parts_of(tmp_path / "s")


def test_memory_is_that_of_one_part_however_many_there_are(tmp_path: Path) -> None:
    """Twenty times the rows take the same memory, within a tenth of what holding them would."""

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        with path.open("w") as file:
            file.write("path\n")
            file.writelines(f"pictures/{number:08d}.jpg\n" for number in range(count))

        def numbers() -> Iterator[int]:
            for part in open_source(str(path), rows_per_part=500).parts():
                yield part.number

        tracemalloc.start()
        last = max(numbers())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert last == count // 500 - 1
        return used

    assert peak(40_000) < 1.1 * peak(2_000)
