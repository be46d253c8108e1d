"""The report as one self-contained HTML page, with what stands behind every figure a click away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mfclip.experiment.report_text import origin
from mfclip.experiment.results import METRICS, Results, read_metrics
from mfclip.experiment.store import Store
from mfclip.experiment.tables import CAPTION, Notes, Section, Table, anchor
from mfclip.runtime.page import render_page

OPEN = ("auc", "accuracy")
"""Figures that are shown at once, as the paper does; the others unfold."""


@dataclass(frozen=True, slots=True)
class Run:
    """What stands behind a figure.

    Attributes:
        seed: of the run.
        facts: names and texts.
        head: of the table of tests.
        tests: its lines.
        config: the settings, TOML.
    """

    seed: int
    facts: list[tuple[str, str]]
    head: Sequence[str]
    tests: list[tuple[str, ...]]
    config: str


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one row and training set; `anchor` is their place on the page."""

    row: str
    train: str
    anchor: str
    runs: list[Run]


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
    return render_page(
        "report.html",
        "mfclip.experiment",
        results=results,
        origin=origin(results),
        caption=CAPTION,
        sections=sections,
        open=OPEN,
        size=size,
        notes=notes,
        groups=_groups(results, store),
    )


def _groups(results: Results, store: Store) -> list[Group]:
    """Describe the runs of each row and training set."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in results.runs:
        groups.setdefault((run["row"], run["train"]), []).append(_run(run, results, store))
    return [
        Group(results.label(row), train, anchor(row, train), runs)
        for (row, train), runs in groups.items()
    ]


def _run(run: Mapping[str, Any], results: Results, store: Store) -> Run:
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
    return Run(
        seed=run["seed"],
        facts=[(name, str(value)) for name, value in facts.items()],
        head=("test", "unit", "real", "fake", "not scored", *METRICS.values(), "data"),
        tests=_tests(run, results, store),
        config=(store.finished(run["key"]) / "config.toml").read_text(encoding="utf-8"),
    )


def _tests(run: Mapping[str, Any], results: Results, store: Store) -> list[tuple[str, ...]]:
    lines = []
    for test in run["tests"]:
        for unit in results.protocol.units:
            cells = _test_cells(read_metrics(store, run, test, unit))
            lines.append((test["name"], unit, *cells, test["manifest"]))
    return lines


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
