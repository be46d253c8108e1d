"""Results to tables of text that Markdown, LaTeX and HTML only have to dress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mfclip.experiment.paper import PaperCell, find_paper_cell
from mfclip.experiment.protocols import plain_name
from mfclip.experiment.results import (
    CROSSED,
    LOWER_IS_BETTER,
    METRICS,
    Crossed,
    Entry,
    Figure,
    Results,
)

CAPTION = (
    "Figures are in percent. With several seeds: mean \N{PLUS-MINUS SIGN} standard deviation over "
    "the seeds. [ ]: 95% interval from resamples of the test's groups (identities or videos), mean "
    "over the seeds. Bold: best of our figures in its column. Columns 'paper' hold the figures "
    "that the paper prints, of its own weights, code and pictures."
)


@dataclass(frozen=True, slots=True)
class Value:
    """One place of a table.

    Attributes:
        text: the figure; empty if there is none.
        interval: its 95% interval; empty if there is none.
        is_best: whether it is the best of its column.
        is_paper: whether it was printed in the paper.
        notes: numbers of the notes on it.
    """

    text: str = ""
    interval: str = ""
    is_best: bool = False
    is_paper: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table.

    Attributes:
        row: name of the row.
        anchor: where its runs are described.
        values: one a column.
    """

    row: str
    anchor: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One figure of merit over rows and tests.

    Attributes:
        metric: key of `METRICS`; ``size`` for parameters and operations.
        heading: the figure in words.
        columns: headings.
        lines: rows.
    """

    metric: str
    heading: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """All tables of one training set, unit and kind of damage.

    Attributes:
        title: in words.
        tests: size of each test, in words.
        tables: one a figure of merit.
    """

    title: str
    tests: str
    tables: tuple[Table, ...]


@dataclass
class Notes:
    """Notes on the paper's figures, numbered from 1 as they are first met."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """Return the number of a note."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def anchor(row: str, train: str) -> str:
    """Name the place where the runs of a row on one training set are described."""
    return f"runs-{plain_name(row)}-{plain_name(train)}"


def build_sections(results: Results, notes: Notes) -> list[Section]:
    """Arrange all figures.

    Args:
        results: of the finished cells.
        notes: takes in what is odd about the paper's figures.
    """
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in results.entries:
        for part in _parts(results, entry):
            groups.setdefault((entry.train, entry.unit, part), []).append(entry)
    several = len(results.protocol.units) > 1
    sections = []
    for (train, unit, part), entries in groups.items():
        words = [f"Trained on {train}", part, f"{unit}s" if several else ""]
        title = ", ".join(filter(None, words))
        tables = tuple(_table(results, metric, entries, notes) for metric in METRICS)
        sections.append(Section(title, _sizes(entries), tables))
    return sections + _crossed_sections(results)


def _crossed_sections(results: Results) -> list[Section]:
    """Arrange the figures over all tests, a section for each training set and unit."""
    groups: dict[tuple[str, str], list[Crossed]] = {}
    for each in results.crossed:
        groups.setdefault((each.train, each.unit), []).append(each)
    sections = []
    for (train, unit), rows in groups.items():
        best = {name: _best(name, [row.figures[name] for row in rows]) for name in CROSSED}
        lines = []
        for row in rows:
            values = [_own(row.figures[name]) for name in CROSSED]
            marked = [
                replace(value, is_best=value.text.split(" ")[0] == best[name])
                for name, value in zip(CROSSED, values, strict=True)
            ]
            lines.append(Line(results.label(row.row), anchor(row.row, train), tuple(marked)))
        table = Table("cross_auc", CROSSED["cross_auc"], tuple(CROSSED.values()), tuple(lines))
        several = f", {unit}s" if len(results.protocol.units) > 1 else ""
        words = (
            f"Over all {rows[0].tests} tests: half the mean AUC and half the mean distance between "
            "the scores of reals and fakes (mfclip.evaluate.cross_auc)."
        )
        sections.append(Section(f"Trained on {train}, over all tests{several}", words, (table,)))
    return sections


def size_table(results: Results, notes: Notes) -> Table:
    """Put parameters and floating-point operations beside those that the paper prints."""
    first = {run["row"]: run for run in reversed(results.runs)}
    rows = [row.name for row in results.protocol.rows if row.name in first]
    has_paper = any(_paper_size(results, row, "params_m") for row in rows)
    columns, lines = [], []
    for heading in ("parameters, M", "operations, G"):
        columns += [heading, f"{heading}, paper"] if has_paper else [heading]
    for row in rows:
        run, values = first[row], []
        for metric, number in (("params_m", run["parameters"]), ("flops_g", run["flops"] / 1e3)):
            values.append(Value(f"{number / 1e6:.2f}"))
            if has_paper:
                values.append(_printed(_paper_size(results, row, metric), notes))
        lines.append(Line(results.label(row), anchor(row, run["train"]), tuple(values)))
    return Table("size", "Size", tuple(columns), tuple(lines))


def _parts(results: Results, entry: Entry) -> Iterator[str]:
    """Name the sections a test stands in: clean pictures begin the row of every kind of damage."""
    damage = results.protocol.perturbations
    if damage is None:
        yield ""
    elif entry.perturbation is None:
        yield from (f"tested on {entry.subset} under {kind}" for kind in damage.kinds)
    else:
        yield f"tested on {entry.subset} under {entry.perturbation}"


def _table(results: Results, metric: str, entries: Sequence[Entry], notes: Notes) -> Table:
    tests = list(dict.fromkeys(entry.test for entry in entries))
    rows = list(dict.fromkeys(entry.row for entry in entries))
    found = {(entry.row, entry.test): entry for entry in entries}
    best = {
        test: _best(metric, [e.figures[metric] for e in entries if e.test == test])
        for test in tests
    }
    printed = {test: any(metric in e.paper for e in entries if e.test == test) for test in tests}
    columns, lines = [], []
    for test in tests:
        columns += [test, f"{test}, paper"] if printed[test] else [test]
    for row in rows:
        values: list[Value] = []
        for test in tests:
            entry = found.get((row, test))
            own = Value() if entry is None else _own(entry.figures[metric])
            values.append(replace(own, is_best=own.text.split(" ")[0] == best[test]))
            if printed[test]:
                values.append(_printed(entry.paper.get(metric) if entry else None, notes))
        train = entries[0].train
        lines.append(Line(results.label(row), anchor(row, train), tuple(values)))
    return Table(metric, METRICS[metric], tuple(columns), tuple(lines))


def _own(figure: Figure) -> Value:
    if math.isnan(figure.mean):
        return Value("n/a")
    text = f"{100 * figure.mean:.2f}"
    if not math.isnan(figure.spread):
        text += f" \N{PLUS-MINUS SIGN} {100 * figure.spread:.2f}"
    known = not math.isnan(figure.low)
    return Value(text, f"[{100 * figure.low:.1f}, {100 * figure.high:.1f}]" if known else "")


def _best(metric: str, column: Iterable[Figure]) -> str | None:
    """Best mean of a column as it is written; None if there is nothing to compare."""
    figures = [figure for figure in column if not math.isnan(figure.mean)]
    if len(figures) < 2:  # noqa: PLR2004 - one is no contest
        return None
    choose = min if metric in LOWER_IS_BETTER else max
    return _own(choose(figures, key=lambda figure: figure.mean)).text.split(" ")[0]


def _printed(cell: PaperCell | None, notes: Notes) -> Value:
    if cell is None or cell.value is None:
        return Value(is_paper=True)
    return Value(cell.printed, is_paper=True, notes=tuple(map(notes.number, cell.notes)))


def _paper_size(results: Results, row: str, metric: str) -> PaperCell | None:
    table = results.protocol.table
    if table is None:
        return None
    trains = (each.name for each in results.protocol.train)
    cells = (find_paper_cell(table, row, train, "", metric) for train in trains)
    return next((cell for cell in cells if cell is not None), None)


def _sizes(entries: Sequence[Entry]) -> str:
    sizes: Mapping[str, Entry] = {entry.subset: entry for entry in entries}
    parts = (f"{name}: {e.num_real} real, {e.num_fake} fake" for name, e in sizes.items())
    return "Tests: " + "; ".join(parts) + "."
