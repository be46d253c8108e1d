"""The tables of docs/findings.md: drawn from reports, and up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

import findings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "findings.md").read_text()
LINE = {
    "row": "MFCLIP", "train": "seen", "test": "B", "perturbation": "", "num_real": "50",
    "num_fake": "50", "seeds": "0 1 2", "mean": "71.04", "std": "1.26", "low": "68.9",
    "high": "74.8",
}  # fmt: skip


def test_a_row_of_several_seeds_shows_their_spread() -> None:
    table = findings.clean_table([LINE, {**LINE, "row": "ViT", "seeds": "0", "std": ""}])
    assert "| MFCLIP | 3 | 71.0 ± 1.3 [68.9, 74.8] |" in table
    assert "| ViT | 1 | 71.0 [68.9, 74.8] |" in table


def test_a_difference_is_bold_where_its_interval_leaves_out_zero() -> None:
    assert findings.points({"value": 0.021, "low": 0.004, "high": 0.04}) == "**+2.1** [+0.4, +4.0]"
    assert findings.points({"value": -0.021, "low": -0.05, "high": 0.01}) == "-2.1 [-5.0, +1.0]"


@pytest.mark.parametrize("name", sorted(path.name for path in findings.RESULTS.iterdir()))
def test_page_is_up_to_date(name: str) -> None:
    shown = findings.clean_table(findings.read(name)) if name != "robustness" else None
    for table, mark in [(shown, name), (differences(name), f"{name} differences")]:
        assert table is None or f"{table}\n<!-- /{mark} -->" in PAGE


def differences(name: str) -> str | None:
    path = findings.RESULTS / name / "differences.json"
    return findings.differences_table(path) if path.is_file() else None
