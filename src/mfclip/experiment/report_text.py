"""The report as Markdown, as LaTeX (booktabs) and as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence

from mfclip.experiment.results import METRICS, Entry, Results
from mfclip.experiment.tables import CAPTION, Notes, Section, Table, Value

CSV_COLUMNS = (
    "row", "train", "test", "subset", "perturbation", "level", "unit", "metric", "seeds", "mean",
    "std", "low", "high", "num_real", "num_fake", "paper", "paper_notes",
)  # fmt: skip
"""Columns of `to_csv`; figures are in percent."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
}  # fmt: skip


def to_markdown(results: Results, sections: list[Section], size: Table, notes: Notes) -> str:
    """Write the whole report as Markdown."""
    parts = [f"# {results.protocol.title}", origin(results), CAPTION]
    for section in sections:
        parts += [f"## {section.title}", section.tests]
        for table in section.tables:
            parts += [f"**{table.heading}**", _markdown_table(table)]
    parts += ["## Size", _markdown_table(size)]
    if results.absent:
        listed = (f"- {name}: {reason}" for name, reason in results.absent.items())
        parts += ["## Without figures", "\n".join(listed)]
    if notes.texts:
        numbered = (f"{number}. {text}" for number, text in enumerate(notes.texts, start=1))
        parts += ["## Notes on the paper's figures", "\n".join(numbered)]
    return "\n\n".join(parts) + "\n"


def to_latex(results: Results, sections: list[Section], size: Table) -> str:
    """Write every table as a ``table`` with booktabs; notes on the paper's figures are left out."""
    head = f"% {results.protocol.name}; needs \\usepackage{{booktabs}}"
    tables = [
        _latex_table(table, f"{results.protocol.title}. {section.title}: {table.heading}, percent.")
        for section in sections
        for table in section.tables
    ]
    tables.append(_latex_table(size, f"{results.protocol.title}. Size."))
    return "\n\n".join([head, *tables]) + "\n"


def to_csv(results: Results) -> str:
    """Write one line a row, test, unit and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for entry in results.entries:
        writer.writerows(_csv_lines(entry, results.label(entry.row)))
    for each in results.crossed:
        for name, figure in each.figures.items():
            head = [
                results.label(each.row),
                each.train,
                "all tests",
                "all tests",
                "",
                0,
                each.unit,
                name,
            ]
            numbers = (figure.mean, figure.spread, figure.low, figure.high)
            writer.writerow([*head, *_csv_numbers(each.seeds, numbers), "", "", "", ""])
    return text.getvalue()


def origin(results: Results) -> str:
    """Say in one line which protocol, data and software the figures come from."""
    versions = sorted({run["provenance"]["mfclip"] for run in results.runs})
    runs = len(results.runs)
    software = f" by mfclip {', '.join(versions)}" if versions else ""
    return (
        f"Protocol {results.protocol.name} ({results.protocol.data}), "
        f"{runs} finished {'run' if runs == 1 else 'runs'}{software}, data "
        f"{results.description['data']}."
    )


def _markdown_table(table: Table) -> str:
    lines = [["", *table.columns], ["---", *["---:"] * len(table.columns)]]
    lines += [[line.row, *map(_markdown_value, line.values)] for line in table.lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_value(value: Value) -> str:
    text = value.text
    if not text:
        return ""
    if value.is_paper:
        marks = ", ".join(map(str, value.notes))
        return f"*{text}*" + (f" (note {marks})" if marks else "")
    text = f"**{text}**" if value.is_best else text
    return f"{text} {value.interval}".strip()


def _latex_table(table: Table, caption: str) -> str:
    head = " & ".join(["", *(_latex_heading(column) for column in table.columns)])
    body = [
        " & ".join([_escape(line.row), *map(_latex_value, line.values)]) + r" \\"
        for line in table.lines
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _latex_heading(column: str) -> str:
    name, comma, mark = column.rpartition(", ")
    return rf"\textit{{{_escape(name)} (paper)}}" if comma and mark == "paper" else _escape(column)


def _latex_value(value: Value) -> str:
    text = _escape(value.text)
    if value.is_paper:
        return rf"\textit{{{text}}}" if text else ""
    text = rf"\textbf{{{text}}}" if value.is_best else text
    return rf"{text} {{\scriptsize {value.interval}}}" if value.interval else text


def _escape(text: str) -> str:
    """Write a text so that LaTeX prints it."""
    pattern = "|".join(map(re.escape, _LATEX))
    return re.sub(pattern, lambda match: _LATEX[match.group()], text)


def _csv_lines(entry: Entry, row: str) -> Iterator[list[object]]:
    for metric in METRICS:
        figure, paper = entry.figures[metric], entry.paper.get(metric)
        numbers = (figure.mean, figure.spread, figure.low, figure.high)
        yield [
            row,
            entry.train,
            entry.test,
            entry.subset,
            entry.perturbation or "",
            entry.level,
            entry.unit,
            metric,
            *_csv_numbers(entry.seeds, numbers),
            entry.num_real,
            entry.num_fake,
            "" if paper is None or paper.value is None else paper.printed,
            "" if paper is None else "; ".join(paper.notes),
        ]


def _csv_numbers(seeds: Sequence[int], numbers: Sequence[float]) -> list[str]:
    percent = ("" if math.isnan(number) else f"{100 * number:.4f}" for number in numbers)
    return [" ".join(map(str, seeds)), *percent]
