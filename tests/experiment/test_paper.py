"""The paper's figures: spot values read off its tables and its text, and its oddities."""

from __future__ import annotations

from collections import Counter

import pytest

from mfclip.errors import ConfigError
from mfclip.experiment.paper import (
    HIGH_AUC,
    LOW_ACC,
    PaperCell,
    PaperNote,
    find_paper_cell,
    paper_cell,
    paper_cells,
    paper_notes,
    paper_value,
    table_title,
)

TABLES = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")


@pytest.mark.parametrize(
    ("table", "row", "train", "test", "metric", "value"),
    [
        ("I", "Xception", "EFS", "AM", "accuracy", 50.00),
        ("I", "FreqNet", "EFS", "FS", "auc", 69.62),
        ("I", "MFCLIP", "FS", "AM", "auc", 80.38),
        ("II", "FreqNet", "FSLSD", "FaceSwapper", "auc", 72.3),
        ("II", "MFCLIP", "DiffFace", "FaceSwapper", "auc", 99.93),
        ("III", "Xception", "DDPM", "DiffFace", "auc", 96.80),
        ("III", "FreqNet", "DDPM", "CollDiff", "auc", 71.52),
        ("III", "CLIP", "DDPM", "LatDiff", "accuracy", 51.79),
        ("III", "FatFormer", "DDPM", "LatDiff", "accuracy", 53.70),
        ("III", "MFCLIP", "DDPM", "Diffae", "auc", 98.76),
        ("III", "CViT", "DiffFace", "CollDiff", "accuracy", 50.04),
        ("III", "MFCLIP", "DiffFace", "Diffae", "accuracy", 52.12),
        ("III", "VLFFD", "Diffae", "DiffFace", "auc", 98.36),
        ("IV", "MFCLIP", "LatTrans", "IAFaces", "accuracy", 55.26),
        ("V", "CEViT", "FF++", "Celeb-DF", "accuracy", 44.24),
        ("V", "MFCLIP", "FF++", "DF-1.0", "auc", 78.99),
        ("VI", "NE", "CollDiff", "DDPM", "accuracy", 99.62),
        ("VII", "56", "CollDiff", "LatDiff", "auc", 90.79),
        ("VII", "224", "CollDiff", "Diffae", "accuracy", 65.50),
        ("VIII", "MFCLIP w/ SPA", "CollDiff", "", "flops_g", 358.12),
        ("VIII", "CLIP w/ SPA", "CollDiff", "", "params_m", 84.225),
        ("IX", "CE + CMC", "CollDiff", "DiffFace", "accuracy", 95.88),
    ],
)
def test_spot_values(
    table: str, row: str, train: str, test: str, metric: str, value: float
) -> None:
    assert paper_value(table, row, train, test, metric) == value


@pytest.mark.parametrize(
    ("table", "train", "test", "better", "worse", "gain"),
    [
        # Sec. IV-B: "26.80%, 18.78%, and 14.66% higher than that of CLIP, VLFFD, and DD-VQA"
        ("I", "AM", "EFS", "MFCLIP", "CLIP", 26.80),
        ("I", "AM", "EFS", "MFCLIP", "VLFFD", 18.78),
        ("I", "AM", "EFS", "MFCLIP", "DD-VQA", 14.66),
        # Sec. IV-B: 27.26% and 26.36% higher than DIRE and FreqNet on IAFaces
        ("IV", "Diffae", "IAFaces", "MFCLIP", "DIRE", 27.26),
        ("IV", "Diffae", "IAFaces", "MFCLIP", "FreqNet", 26.36),
        # Sec. IV-B on Table V: about 1.34% higher than VLFFD
        ("V", "FF++", "DFDC", "MFCLIP", "VLFFD", 1.34),
        # Sec. V-A: "NE improves the performance by 47.89% AUC on LatDiff", "(+45.55%)"
        ("VI", "CollDiff", "LatDiff", "NE + IE", "IE", 47.89),
        ("VI", "CollDiff", "LatDiff", "IE + FTE", "IE", 45.55),
        # Sec. V-C: "improved by 2.72%"
        ("VIII", "CollDiff", "LatDiff", "CLIP w/ SPA", "CLIP w/o SPA", 2.72),
    ],
)
def test_gains_agree_with_the_sentences(
    table: str, train: str, test: str, better: str, worse: str, gain: float
) -> None:
    high, low = (paper_value(table, row, train, test, "auc") for row in (better, worse))
    assert high is not None
    assert low is not None
    assert high - low == pytest.approx(gain, abs=1e-9)


def test_every_table_has_all_its_cells() -> None:
    # train x rows x (tests x 2): 3x10x6, 3x10x6, 5x10x10, 2x10x6, 1x11x8, 7x8, 6x8, 4x(6+2), 4x8
    assert [len(paper_cells(table)) for table in TABLES] == [
        180, 180, 500, 120, 88, 56, 48, 32, 32,
    ]  # fmt: skip


def test_what_is_not_printed_or_not_readable() -> None:
    marks = {
        table: Counter(cell.printed for cell in paper_cells(table) if cell.value is None)
        for table in TABLES
    }
    assert marks["III"] == {"-": 100, "?": 4}  # the diagonal: 5 x 10 x 2
    assert marks["I"] == marks["II"] == {"-": 60}
    assert marks["IV"] == {"-": 40}
    assert marks["V"] == {"-": 28}  # 4 in two rows, 5 in four rows
    assert not any(marks[table] for table in ("VI", "VII", "VIII", "IX"))


def test_nothing_is_printed_on_the_diagonal() -> None:
    for table in ("I", "II", "III", "IV"):
        for cell in paper_cells(table):
            assert (cell.printed == "-") == (cell.train == cell.test), cell


def test_figures_are_percent() -> None:
    values = [c.value for t in TABLES for c in paper_cells(t) if c.metric in {"accuracy", "auc"}]
    assert all(30 < value <= 100 for value in values if value is not None)


@pytest.mark.parametrize(
    "note", [n for n in paper_notes() if n.kind == "equal"], ids=lambda n: n.text
)
def test_rows_that_are_said_to_agree_do_digit_for_digit(note: PaperNote) -> None:
    columns = [
        {
            (cell.test, cell.metric): cell.printed
            for cell in paper_cells(table)
            if (cell.train, cell.row) == (train, row) and note.touches(cell)
        }
        for table, train, row in note.rows
    ]
    for other in columns[1:]:
        shared = {
            key
            for key in columns[0].keys() & other.keys()
            if "-" not in (columns[0][key], other[key])
        }
        assert len(shared) >= 2
        assert [columns[0][key] for key in sorted(shared)] == [other[key] for key in sorted(shared)]


def test_ie_alone_is_cvit_on_all_four_test_sets() -> None:
    for test in ("DDPM", "LatDiff", "DiffFace", "Diffae"):
        for metric in ("accuracy", "auc"):
            ours = paper_cell("VI", "IE", "CollDiff", test, metric)
            theirs = paper_cell("III", "CViT", "CollDiff", test, metric)
            assert ours.printed == theirs.printed
            assert any("CViT baseline" in note for note in ours.notes)
            assert any("CViT baseline" in note for note in theirs.notes)


def test_every_note_touches_a_printed_cell_of_each_of_its_rows() -> None:
    cells = [cell for table in TABLES for cell in paper_cells(table)]
    for note in paper_notes():
        for row in note.rows:
            touched = [
                c for c in cells if (c.table, c.train, c.row) == row and note.text in c.notes
            ]
            assert touched, (note.text, row)


def test_unreadable_cells_say_why() -> None:
    lost = [cell for table in TABLES for cell in paper_cells(table) if cell.printed == "?"]
    assert {(cell.train, cell.row, cell.test, cell.metric) for cell in lost} == {
        ("DDPM", "VLFFD", "DiffFace", "accuracy"),
        ("DDPM", "DD-VQA", "LatDiff", "accuracy"),
        ("DDPM", "DD-VQA", "LatDiff", "auc"),
        ("Diffae", "MFCLIP", "DiffFace", "accuracy"),
    }
    assert all("the text" in " ".join(cell.notes) for cell in lost)


def test_a_misplaced_threshold_is_flagged_and_no_other_cell() -> None:
    def flagged(cell: PaperCell) -> bool:
        return any("threshold 0.5" in note for note in cell.notes)

    assert flagged(
        paper_cell("III", "MFCLIP", "DiffFace", "Diffae", "accuracy")
    )  # 52.12 beside 99.92
    assert not flagged(paper_cell("III", "MFCLIP", "CollDiff", "DDPM", "accuracy"))
    for table in TABLES:
        pairs: dict[tuple[str, str, str], dict[str, PaperCell]] = {}
        for cell in paper_cells(table):
            if cell.test:
                pairs.setdefault((cell.train, cell.row, cell.test), {})[cell.metric] = cell
        for pair in pairs.values():
            acc, auc = pair["accuracy"].value, pair["auc"].value
            low = acc is not None and auc is not None and acc <= LOW_ACC and auc >= HIGH_AUC
            assert flagged(pair["accuracy"]) == flagged(pair["auc"]) == low


def test_the_predictor_gain_of_the_text_is_not_that_of_the_table() -> None:
    with_it = paper_cell("VI", "IE + FTE + predictor", "CollDiff", "DiffFace", "accuracy")
    without = paper_value("VI", "IE + FTE", "CollDiff", "DiffFace", "accuracy")
    assert with_it.value is not None
    assert without is not None
    assert round(with_it.value - without, 2) == 3.03  # Sec. V-A says 3.23
    assert any("3.23" in note for note in with_it.notes)


def test_words_that_no_cell_has() -> None:
    with pytest.raises(ConfigError, match=r"expected table to be one of I, II, .* but got 'X'"):
        paper_value("X", "MFCLIP", "CollDiff", "DDPM")
    with pytest.raises(ConfigError, match=r"expected train to be one of \[EFS, AM, FS\].*'DDPM'"):
        paper_value("I", "MFCLIP", "DDPM", "AM")
    with pytest.raises(ConfigError, match=r"expected row to be one of .*MFCLIP.* got 'LatTrans'"):
        paper_value("III", "LatTrans", "DDPM", "LatDiff")
    with pytest.raises(ConfigError, match=r"expected metric to be one of .* but got 'eer'"):
        paper_value("III", "MFCLIP", "DDPM", "LatDiff", "eer")
    with pytest.raises(ConfigError, match="has no cell with"):
        paper_value("VIII", "CLIP w/ SPA", "CollDiff", "DDPM", "flops_g")


def test_a_cell_that_the_paper_lacks_is_found_to_be_none() -> None:
    assert find_paper_cell("IV", "MFCLIP", "IAFaces", "Diffae") is None
    cell = find_paper_cell("IV", "MFCLIP", "LatTrans", "Diffae")
    assert cell == paper_cell("IV", "MFCLIP", "LatTrans", "Diffae")
    assert cell.value == 75.00


def test_titles() -> None:
    assert table_title("IX") == "Effects of losses"
