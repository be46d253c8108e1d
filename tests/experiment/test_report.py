"""Four forms of one report hold the same figures, and lead to what stands behind them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mfclip.errors import InputError
from mfclip.experiment.report import NAMES, write_report
from mfclip.experiment.report_text import _escape
from mfclip.experiment.results import METRICS, Results, read_results
from mfclip.experiment.store import Store
from mfclip.experiment.tables import Notes, build_sections, size_table

Storer = Callable[..., Store]
TABLE = "table3_cross_diffusion"
VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture(scope="module")
def store(storer: Storer) -> Store:
    return storer(TABLE, ["Xception", "CViT", "MFCLIP"], train="CollDiff", seeds=(0, 1))


def _texts(store: Store) -> dict[str, str]:
    write_report(store.root)
    return {name: (store.root / name).read_text(encoding="utf-8") for name in NAMES}


def test_best_is_the_highest_and_for_eer_the_lowest(store: Store) -> None:
    results = read_results(store)
    (section,) = build_sections(results, Notes())
    for table in section.tables:
        choose = min if table.metric == "eer" else max
        for number, test in enumerate(table.columns):
            if test.endswith(", paper"):
                continue
            means = {e.row: e.figures[table.metric].mean for e in results.entries if e.test == test}
            bold = {line.row for line in table.lines if line.values[number].is_best}
            best = f"{100 * choose(means.values()):.2f}"
            assert bold == {row for row, mean in means.items() if f"{100 * mean:.2f}" == best}


def test_printed_figures_stand_in_marked_columns_with_their_notes(store: Store) -> None:
    notes = Notes()
    (section,) = build_sections(read_results(store), notes)
    table = next(table for table in section.tables if table.metric == "auc")
    assert table.columns[:4] == ("DDPM", "DDPM, paper", "LatDiff", "LatDiff, paper")
    line = next(line for line in table.lines if line.row == "MFCLIP")
    assert (line.values[3].text, line.values[3].is_paper) == ("99.97", True)
    assert any("one run stands in Tables" in notes.texts[n - 1] for n in line.values[3].notes)
    fitted = next(table for table in section.tables if table.metric == "accuracy_fitted")
    assert fitted.columns == ("DDPM", "LatDiff", "DiffFace", "Diffae")  # not in the paper


def test_size_stands_beside_the_papers_where_it_prints_one(storer: Storer) -> None:
    results = read_results(storer("table8_spa", ["MFCLIP w/ SPA"], train="CollDiff"))
    table = size_table(results, Notes())
    assert table.columns[1] == "parameters, M, paper"
    texts = [value.text for value in table.lines[0].values]
    assert (texts[0], texts[2]) == ("1.50", "2.00")
    assert float(texts[1]) > 1


def test_csv_holds_every_figure_in_percent(store: Store) -> None:
    results = read_results(store)
    rows = list(csv.DictReader(_texts(store)["report.csv"].splitlines()))
    assert len(rows) == len(results.entries) * len(METRICS) == 3 * 4 * 6
    for row in rows:
        entry = next(e for e in results.entries if (e.row, e.test) == (row["row"], row["test"]))
        figure = entry.figures[row["metric"]]
        for name, value in (("mean", figure.mean), ("std", figure.spread), ("low", figure.low)):
            assert float(row[name]) == pytest.approx(100 * value, abs=1e-3)
        assert row["seeds"] == "0 1"


def test_markdown_latex_and_page_show_the_same_figures(store: Store) -> None:
    texts = _texts(store)
    for entry in read_results(store).entries:
        for figure in entry.figures.values():
            number = f"{100 * figure.mean:.2f}"
            spread = f"{100 * figure.spread:.2f}"
            assert f"{number} \N{PLUS-MINUS SIGN} {spread}" in texts["report.md"]
            assert f"{number} \N{PLUS-MINUS SIGN} {spread}" in texts["report.html"]
            assert rf"{number} $\pm$ {spread}" in texts["report.tex"]
    assert "*99.97* (note" in texts["report.md"]
    assert r"\textit{99.97}" in texts["report.tex"]
    assert "- DIRE: skipped: 'dire' judges maps" in texts["report.md"]


def test_latex_is_balanced_and_every_line_has_its_columns(store: Store) -> None:
    text = _texts(store)["report.tex"]
    for begin in ("table", "tabular"):
        assert text.count(rf"\begin{{{begin}}}") == text.count(rf"\end{{{begin}}}") == 7
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = re.match(r"\{(l r*|lr*)\}", block)
        assert columns is not None
        body = block.partition(r"\end{tabular}")[0]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {line.count(" & ") for line in lines} == {len(columns[1]) - 1}
    assert _escape("a_b & 50% {x}") == r"a\_b \& 50\% \{x\}"


class _Page(HTMLParser):
    """Collects ids, links and addresses, and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src"):
                if str(value).startswith("#"):
                    self.links.add(str(value)[1:])
                else:
                    self.outside.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_self_contained_and_leads_to_the_runs(store: Store) -> None:
    text = _texts(store)["report.html"]
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.outside == []
    assert len(page.ids) == len(set(page.ids))
    assert page.links <= set(page.ids)
    assert {f"runs-{row}-CollDiff" for row in ("Xception", "CViT", "MFCLIP")} <= page.links
    facts = ("cafe", "feed", "beef", "random weights", "torch", "seed 0, 1", "real 9, CollDiff 4")
    for fact in facts:
        assert fact in text
    assert "&lt;b&gt;&amp;" in text  # settings are text, not markup
    assert '<b>&"' not in text


def test_damage_gets_a_section_a_kind_that_begins_with_the_clean_test(
    storer: Storer, protocol_file: Path
) -> None:
    text = protocol_file.read_text().replace('["GB"]', '["GB", "CC"]').replace("[5]", "[1, 5]")
    protocol_file.write_text(text)
    store = storer(protocol_file, ["MFCLIP", "image, alone"], train="A")
    sections = build_sections(read_results(store), Notes())
    assert [section.title for section in sections] == [
        f"Trained on A, tested on {subset} under {kind}, {unit}s"
        for unit in ("frame", "video")
        for subset in ("A", "B")
        for kind in ("GB", "CC")
    ]
    assert sections[3].tables[0].columns == ("B", "B, CC 1", "B, CC 5")


def test_report_of_nothing_finished_lists_every_row(storer: Storer) -> None:
    store = storer(TABLE, [], train="CollDiff")
    results: Results = write_report(store.root)
    assert len(results.absent) == len(results.protocol.rows)
    assert "0 finished runs" in (store.root / "report.md").read_text()


def test_same_cells_give_the_same_bytes(store: Store, tmp_path: Path) -> None:
    assert _texts(store) == _texts(store)


def test_folders_of_several_machines_are_joined_in_one_report(storer: Storer) -> None:
    rows = ["Xception", "CViT", "MFCLIP"]
    whole = storer(TABLE, rows, train="CollDiff")
    first, second = (storer(TABLE, part, train="CollDiff") for part in (rows[:2], rows[1:]))
    joined = write_report(first.root, [second.root])
    expected = write_report(whole.root)
    assert [run["key"] for run in joined.runs] == [run["key"] for run in expected.runs]
    assert joined.entries == expected.entries
    for name in ("report.csv", "report.tex"):
        assert (first.root / name).read_bytes() == (whole.root / name).read_bytes()
    page = (first.root / "report.html").read_text()
    assert all(row in page for row in rows)
    assert not (second.root / "report.csv").exists()


def test_different_experiments_stand_in_no_common_report(storer: Storer) -> None:
    first = storer(TABLE, ["MFCLIP"], train="CollDiff")
    second = storer("table9_losses", ["CE"], train="CollDiff")
    with pytest.raises(InputError, match="hold experiments with another protocol, which cannot"):
        write_report(first.root, [second.root])
