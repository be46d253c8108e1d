"""The paper's printed figures, cell by cell, with what is odd about them.

Source: Tables I-IX of the MFCLIP paper, in ``paper_tables.toml``, read from its text. ACC and AUC
are in percent, as printed; ours are ratios. Fig. 6 is the mean of a test set's AUC in Table III
over all rows; Fig. 7 and 8 are drawn only, so they are not here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from mfclip.errors import ConfigError

NOT_PRINTED = "-"
UNREADABLE = "?"
PAIR = ("accuracy", "auc")
"""What the paper prints for each test set, percent; named as in `Metrics`."""

LOW_ACC, HIGH_AUC = 52.5, 75.0
"""A cell with ACC up to the one beside an AUC from the other gets a note, percent; our limits."""

_MISPLACED = (
    "ACC near chance beside a high AUC: the threshold 0.5 is badly placed out of domain; "
    "compare AUC, or ACC at a threshold fitted on validation"
)


@dataclass(frozen=True, slots=True)
class PaperCell:
    """One printed figure.

    Attributes:
        table: Roman numeral of the table.
        row: the method, or the variant of an ablation.
        train: what it was trained on.
        test: what it was tested on; empty for a figure of the whole row.
        metric: ``accuracy`` or ``auc`` (percent), ``params_m`` (millions), ``flops_g`` (10^9).
        printed: the digits as printed, `NOT_PRINTED` or `UNREADABLE`.
        notes: what is odd about it.
    """

    table: str
    row: str
    train: str
    test: str
    metric: str
    printed: str
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> float | None:
        """The figure, or None where there is none or it cannot be read."""
        return None if self.printed in {NOT_PRINTED, UNREADABLE} else float(self.printed)


@dataclass(frozen=True, slots=True)
class PaperNote:
    """Something odd about a group of cells.

    Attributes:
        kind: ``equal`` (the cells of these rows agree digit for digit), ``doubt`` (the text is
            damaged near by), ``text`` (the paper's words say otherwise), ``result``.
        text: in words.
        rows: (table, train, row) of each row it touches.
        tests: test sets it touches; empty = all.
        metrics: metrics it touches; empty = all.
    """

    kind: str
    text: str
    rows: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def touches(self, cell: PaperCell) -> bool:
        """Whether it speaks of this cell."""
        return (
            (cell.table, cell.train, cell.row) in self.rows
            and (not self.tests or cell.test in self.tests)
            and cell.metric in (self.metrics or PAIR)
        )


def paper_cells(table: str) -> tuple[PaperCell, ...]:
    """Return all cells of a table in printed order, row by row.

    Args:
        table: ``I`` to ``IX``.

    Raises:
        ConfigError: no such table.
    """
    return tuple(_index(table).values())


def paper_cell(table: str, row: str, train: str, test: str, metric: str = "auc") -> PaperCell:
    """Look one cell up, with its notes.

    Args:
        table: ``I`` to ``IX``.
        row: the method or variant, as the paper writes it, e.g. ``DD-VQA`` or ``CE + KL``.
        train: what it was trained on, e.g. ``CollDiff``.
        test: what it was tested on; empty for ``params_m`` and ``flops_g``.
        metric: ``accuracy``, ``auc``, ``params_m`` or ``flops_g``.

    Raises:
        ConfigError: the table has no such row, training set, test set or metric.

    Example:
        >>> paper_cell("VI", "IE", "CollDiff", "LatDiff").notes[0][:24]
        "the row 'IE' of Table VI"
    """
    cells = _index(table)
    key = (train, row, test, metric)
    if key not in cells:
        raise ConfigError(_explain(table, dict(zip(_AXES, key, strict=True)), cells))
    return cells[key]


def find_paper_cell(
    table: str, row: str, train: str, test: str, metric: str = "auc"
) -> PaperCell | None:
    """Look one cell up as `paper_cell` does, but return None where the paper has none.

    A protocol may ask for more than its table prints, e.g. rows of Table IV trained on IAFaces.

    Raises:
        ConfigError: no such table.
    """
    return _index(table).get((train, row, test, metric))


def paper_value(table: str, row: str, train: str, test: str, metric: str = "auc") -> float | None:
    """Return one printed figure (ACC and AUC in percent); None if there is none.

    Args:
        table: as in `paper_cell`, like the others.
        row: the method or variant.
        train: what it was trained on.
        test: what it was tested on.
        metric: which figure.

    Raises:
        ConfigError: as in `paper_cell`.

    Example:
        >>> paper_value("III", "MFCLIP", "CollDiff", "LatDiff", "auc")
        99.97
    """
    return paper_cell(table, row, train, test, metric).value


@cache
def paper_notes() -> tuple[PaperNote, ...]:
    """Return what is odd in the tables, besides the rule of `LOW_ACC` and `HIGH_AUC`."""
    return tuple(
        PaperNote(
            kind=entry["kind"],
            text=entry["text"],
            rows=tuple((cell["table"], cell["train"], cell["row"]) for cell in entry["cells"]),
            tests=tuple(entry.get("tests", ())),
            metrics=tuple(entry.get("metrics", ())),
        )
        for entry in _content()["notes"]
    )


def table_title(table: str) -> str:
    """Return what a table of the paper shows.

    Raises:
        ConfigError: no such table.
    """
    return str(_table(table)["title"])


_AXES = ("train", "row", "test", "metric")


@cache
def _content() -> Mapping[str, Any]:
    place = files("mfclip.experiment").joinpath("paper_tables.toml")
    return tomllib.loads(place.read_text(encoding="utf-8"))


def _table(table: str) -> Mapping[str, Any]:
    tables: Mapping[str, Mapping[str, Any]] = _content()["tables"]
    if table not in tables:
        raise ConfigError(f"expected table to be one of {', '.join(tables)}, but got '{table}'")
    return tables[table]


@cache
def _index(table: str) -> dict[tuple[str, str, str, str], PaperCell]:
    content = _table(table)
    columns = [(test, metric) for test in content["tests"] for metric in PAIR]
    columns += [("", metric) for metric in content.get("extra", ())]
    cells = {}
    for train, rows in content["cells"].items():
        for row, line in rows.items():
            for cell in _row(table, train, row, zip(columns, line.split(), strict=True)):
                cells[train, row, cell.test, cell.metric] = cell
    return cells


def _row(
    table: str, train: str, row: str, figures: Iterable[tuple[tuple[str, str], str]]
) -> list[PaperCell]:
    plain = [PaperCell(table, row, train, *column, printed) for column, printed in figures]
    return [replace(cell, notes=_notes(cell, plain)) for cell in plain]


def _notes(cell: PaperCell, row: Sequence[PaperCell]) -> tuple[str, ...]:
    if cell.printed == NOT_PRINTED:
        return ()
    found = [note.text for note in paper_notes() if note.touches(cell)]
    pair = {other.metric: other.value for other in row if other.test == cell.test}
    acc, auc = pair.get("accuracy"), pair.get("auc")
    if acc is not None and auc is not None and acc <= LOW_ACC and auc >= HIGH_AUC:
        found.append(_MISPLACED)
    return tuple(found)


def _explain(
    table: str, wanted: Mapping[str, str], cells: Iterable[tuple[str, str, str, str]]
) -> str:
    """Name the first word that no cell of the table has, and what there is."""
    keys = list(cells)
    for place, (axis, word) in enumerate(wanted.items()):
        known = list(dict.fromkeys(key[place] for key in keys))
        if word not in known:
            choices = ", ".join(name or "(empty)" for name in known)
            return f"Table {table}: expected {axis} to be one of [{choices}], but got '{word}'"
    cell = ", ".join(f"{axis} '{word}'" for axis, word in wanted.items())
    return f"Table {table} has no cell with {cell}; list them with paper_cells('{table}')"
