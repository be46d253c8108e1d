"""The report as one self-contained HTML page, with what stands behind every figure a click away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from mfclip.experiment.report_text import origin
from mfclip.experiment.results import METRICS, Results, read_metrics
from mfclip.experiment.store import Store
from mfclip.experiment.tables import CAPTION, Line, Notes, Section, Table, Value, anchor

OPEN = ("auc", "accuracy")
"""Figures that are shown at once, as the paper does; the others unfold."""


def to_html(
    results: Results, sections: list[Section], size: Table, notes: Notes, store: Store
) -> str:
    """Write the whole report as a page that needs no other file.

    Args:
        results: of the finished cells.
        sections: their tables.
        size: parameters and operations.
        notes: on the paper's figures.
        store: holds settings and metrics of every run.
    """
    template = Template(files("mfclip.experiment").joinpath("report.html").read_text("utf-8"))
    return template.substitute(
        title=escape(results.protocol.title),
        origin=escape(origin(results)),
        caption=escape(CAPTION),
        contents="".join(
            f'<li><a href="#s{number}">{escape(section.title)}</a></li>'
            for number, section in enumerate(sections)
        ),
        sections="\n".join(_section(s, number) for number, s in enumerate(sections)),
        size=_table(size),
        absent=_absent(results.absent),
        notes=_notes(notes),
        runs="\n".join(_runs(results, store)),
    )


def _section(section: Section, number: int) -> str:
    shown = [_table(table) for table in section.tables if table.metric in OPEN]
    folded = [_table(table) for table in section.tables if table.metric not in OPEN]
    words = ", ".join(table.heading for table in section.tables if table.metric not in OPEN)
    more = f"<details><summary>{escape(words)}</summary>{''.join(folded)}</details>"
    return (
        f'<section id="s{number}"><h2>{escape(section.title)}</h2>'
        f'<p class="soft">{escape(section.tests)}</p>{"".join(shown)}{more}</section>'
    )


def _table(table: Table) -> str:
    marks = ['class="paper"' if name.endswith(", paper") else "" for name in table.columns]
    head = "".join(
        f'<th scope="col" {mark}>{escape(name)}</th>'
        for name, mark in zip(table.columns, marks, strict=True)
    )
    body = "".join(map(_line, table.lines))
    return (
        f"<h3>{escape(table.heading)}</h3>"
        f'<div class="scroll"><table><thead><tr><th scope="col">row</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _line(line: Line) -> str:
    values = "".join(_value(value, line.anchor) for value in line.values)
    return f'<tr><th scope="row">{escape(line.row)}</th>{values}</tr>'


def _value(value: Value, target: str) -> str:
    if value.is_paper:
        marks = "".join(f'<sup><a href="#n{n}">{n}</a></sup>' for n in value.notes)
        return f'<td class="paper">{escape(value.text)}{marks}</td>'
    if not value.text:
        return "<td></td>"
    text = f"<b>{escape(value.text)}</b>" if value.is_best else escape(value.text)
    interval = f'<span class="soft">{escape(value.interval)}</span>' if value.interval else ""
    return f'<td><a href="#{target}">{text}</a> {interval}</td>'


def _absent(absent: Mapping[str, str]) -> str:
    if not absent:
        return ""
    rows = "".join(f"<li><b>{escape(k)}</b>: {escape(v)}</li>" for k, v in absent.items())
    return f"<section><h2>Without figures</h2><ul>{rows}</ul></section>"


def _notes(notes: Notes) -> str:
    if not notes.texts:
        return ""
    items = "".join(
        f'<li id="n{number}">{escape(text)}</li>' for number, text in enumerate(notes.texts, 1)
    )
    return f"<section><h2>Notes on the paper's figures</h2><ol>{items}</ol></section>"


def _runs(results: Results, store: Store) -> list[str]:
    """Describe the runs of each row and training set."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in results.runs:
        groups.setdefault((run["row"], run["train"]), []).append(run)
    return [
        f'<details id="{anchor(row, train)}"><summary>{escape(row)}, trained on '
        f"{escape(train)}: seed {', '.join(str(run['seed']) for run in runs)}</summary>"
        f"{''.join(_run(run, results, store) for run in runs)}</details>"
        for (row, train), runs in groups.items()
    ]


def _run(run: Mapping[str, Any], results: Results, store: Store) -> str:
    config = (store.finished(run["key"]) / "config.toml").read_text(encoding="utf-8")
    facts = {
        "seed": run["seed"],
        "folder": f"cells/{run['key']}",
        "started from": run["pretrained"] or "random weights",
        "best epoch": run["epoch"],
        "validation": _pairs(run["validation"]),
        "training split": _pairs(run["images"]["train"]),
        "validation split": _pairs(run["images"]["val"]),
        "fingerprints": f"settings {run['config_fingerprint']}, data {run['manifest']}",
        "device": run["device"],
        "software and machine": _pairs(run["provenance"]),
        "finished": run["finished"],
    }
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(str(value))}</td></tr>'
        for key, value in facts.items()
    )
    return (
        f"<h3>Seed {run['seed']}</h3><table>{rows}</table>{_tests(run, results, store)}"
        f"<details><summary>Settings</summary><pre>{escape(config)}</pre></details>"
    )


def _tests(run: Mapping[str, Any], results: Results, store: Store) -> str:
    heads = ("test", "unit", "real", "fake", "not scored", *METRICS.values(), "data")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    lines = []
    for test in run["tests"]:
        for unit in results.protocol.units:
            metrics = read_metrics(store, run, test, unit)
            cells = (test["name"], unit, *_test_cells(metrics), test["manifest"])
            lines.append("".join(f"<td>{escape(str(cell))}</td>" for cell in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _test_cells(metrics: Mapping[str, Any]) -> Sequence[str]:
    overall = metrics["rows"][0]
    counts = (overall["num_real"], overall["num_fake"], len(metrics["errors"]))
    figures = (_percent(overall["figures"].get(m), overall["intervals"].get(m)) for m in METRICS)
    return [*map(str, counts), *figures]


def _percent(value: float | None, interval: Mapping[str, float | None] | None) -> str:
    if value is None:
        return "n/a"
    text = f"{100 * value:.2f}"
    if interval is None or interval["low"] is None or interval["high"] is None:
        return text
    return f"{text} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def _pairs(values: Mapping[str, Any]) -> str:
    """Write a mapping in one line."""
    parts = (
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {_plain(value)}"
        for key, value in values.items()
    )
    return ", ".join(parts)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
