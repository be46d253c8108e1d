"""The tables of the pages: drawn from result files, and up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import serve_tables
import speed_tables
import tables

ROOT = Path(__file__).resolve().parents[2]
TABLES = vars(speed_tables) | vars(serve_tables)
SECTIONS = ("targets", "ways", "machine", "startup", "end_to_end", "scaling", "profile")


def way(rate: float, times: float, part: float | None) -> dict[str, Any]:
    return {
        "images_per_second": rate,
        "times_faster": times,
        "largest_difference": 0.0012,
        "fraction_of_ceiling": part,
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One result file of each kind, with figures that are easy to recognise."""
    scoring = {
        "straightforward": way(8.0, 1.0, 0.05),
        "openvino bf16": way(100.0, 12.5, 0.4),
        "targets": {
            "fp32": {"target": 5.0, "best": "onnx fp32", "reached": 4.25},
            "bf16": {"target": 12.0, "best": "openvino bf16", "reached": 12.5},
            "int8": {"target": 25.0, "best": None, "reached": None},
        },
    }
    speed = {"vision_and_verdict": scoring, "training_step": {}, "patch_selection": {}}
    start = {"seconds": {"median": 1.234}, "processor_seconds": {"median": 1.1}}
    row = {"model": "mfclip", "engine": "torch fp32", "faces": "whole", "part_possible": 0.97}
    row |= {"engine_images_per_second": 40.0, "files_images_per_second": 30.0}
    row |= {"part_reached": 0.75, "reading_processor_ms": 1.25}
    scale = {"way": "predict", "pictures": 1000, "seconds": 9.0, "ms_per_picture": 9.0}
    files = {
        "speed-mfclip": speed,
        "startup": {"ways": {"mfclip predict one.jpg": {**start, "target_seconds": 2.0}}},
        "end_to_end": {"target": 0.8, "rows": [row]},
        "scaling": {"rows": [{**scale, "processor_ms_per_picture": 17.5, "peak_mib": 512.4}]},
        "profile": {"rows": [{"model": "mfclip", "work": "judging", "shares": {"conv": 0.755}}]},
    }
    for name, tree in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(tree))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("targets", "| vision features and verdict | fp32 | 5 x | 4.2 x (onnx fp32), missed | "),
        ("targets", "| vision features and verdict | bf16 | 12 x | 12.5 x (openvino bf16) | "),
        ("targets", "| vision features and verdict | int8 | 25 x | not measured | "),
        (
            "ways",
            "| `mfclip` | vision features and verdict | openvino bf16 | 100.0 | 12.50 | 40% |",
        ),
        ("startup", "| `mfclip predict one.jpg` | 1.23 | 1.10 | 2 |"),
        ("end_to_end", "| `mfclip` | torch fp32 | whole | 40.0 | 30.0 | 75%, missed | 97% | 1.2 |"),
        ("scaling", "| `Predictor.iter_predict` | 1,000 | 9.0 | 9.00 | 17.50 | 512 |"),
        ("profile", "| `mfclip` | judging | `conv` 76% |"),
    ],
)
def test_rows_say_what_the_files_say(results: Path, name: str, line: str) -> None:
    assert line in TABLES[f"render_{name}"](results)


@pytest.mark.parametrize("name", SECTIONS)
def test_what_was_not_measured_is_said(tmp_path: Path, name: str) -> None:
    assert TABLES[f"render_{name}"](tmp_path) == "Not measured yet."


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return tables.draw(ROOT / "benchmarks" / "results")


@pytest.mark.parametrize("page", tables.PAGES)
def test_page_is_up_to_date(page: str, drawn: dict[str, str]) -> None:
    text = (ROOT / page).read_text()
    marks = set(re.findall(r"^<!-- (.+?): written by benchmarks/tables.py -->$", text, re.M))
    assert marks
    for name in marks:
        assert f"\n{drawn[name]}\n<!-- /{name} -->" in text, "run: python benchmarks/tables.py"


def test_the_line_of_scores_says_what_the_table_says(drawn: dict[str, str]) -> None:
    """README.md has the first row of either table of the model card."""
    rows = [line.split(" | ") for line in drawn["scores"].splitlines() if "**all**" in line]
    for _, fakes, auc, *_ in rows:
        assert f"**{auc}**" in drawn["score"]
        assert f"({int(fakes):,} forged" in drawn["score"]
    assert len(rows) == 2


def test_a_table_says_that_its_file_is_of_a_changed_tree(results: Path) -> None:
    changed = [name for name, files in tables.SOURCES.items() if "startup" in files]
    assert changed == ["startup"]
    assert tables.find_changed(results) == []
    tree = json.loads((results / "startup.json").read_text()) | {"commit": "0a1b2c-changed"}
    (results / "startup.json").write_text(json.dumps(tree))
    assert tables.find_changed(results) == ["startup"]
    assert tables._doubt(results, "startup").endswith("(`startup.json`); to be measured again.*")
    assert tables._doubt(results, "scaling") == ""


def test_files_of_a_changed_tree_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "benchmarks" / "results"
    made.mkdir(parents=True)
    (made / "trials.json").write_text('{"commit": "0a1b2c-changed"}')
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["tables.py"])
    with pytest.raises(SystemExit, match="measure again: trials"):
        tables.main()


def test_every_result_file_behind_a_table_exists(drawn: dict[str, str]) -> None:
    assert set(tables.SOURCES) < set(drawn)
    for files in tables.SOURCES.values():
        for file in files:
            assert (ROOT / "benchmarks" / "results" / f"{file}.json").is_file()
