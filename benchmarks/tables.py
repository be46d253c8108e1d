"""Write measured figures into the pages: README.md, docs and benchmarks/README.md.

    python benchmarks/tables.py            # refuses files that were measured on a changed tree
    python benchmarks/tables.py --changed  # takes them, and says so beneath their tables

Each table is drawn from a file in ``results``, which one of the commands of benchmarks/README.md
wrote, or from the card in the embedded weights, which `mfclip release` wrote. A figure whose code
is in no commit can be repeated by nobody. Here are those that
say how good the scores are; the others are in ``speed_tables.py`` and ``serve_tables.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from mfclip.card import Share
from mfclip.detectors import find_weights
from mfclip.media.perturbations import EXTRA_PERTURBATIONS
from mfclip.report.document import rate_rows
from mfclip.report.wording import Words
from mfclip.weights import read_weights
from serve_tables import render_fuzz, render_load
from speed_tables import (
    MISSING,
    read_result,
    render_end_to_end,
    render_engines,
    render_machine,
    render_profile,
    render_scaling,
    render_speed,
    render_startup,
    render_targets,
    render_ways,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/model_card.md",
    "docs/export.md",
    "docs/predict.md",
    "docs/serve.md",
    "docs/speed.md",
    "docs/training.md",
    "benchmarks/README.md",
)
SOURCES = {
    "speed": ("speed-mfclip", "speed-mfclip-small"),
    "targets": ("speed-mfclip", "speed-mfclip-small"),
    "ways": ("speed-mfclip", "speed-mfclip-small"),
    "machine": ("speed-mfclip",),
    "engines": ("engines-mfclip", "engines-mfclip-small"),
    "startup": ("startup",),
    "end_to_end": ("end_to_end",),
    "scaling": ("scaling",),
    "profile": ("profile",),
    "load": ("serve_load",),
    "fuzz": ("serve_fuzz",),
    "training": ("training",),
    "trials": ("trials",),
    "robustness": ("robustness",),
    "quality": ("quality",),
}
"""Result files behind each table; the others are drawn from what `mfclip release` wrote."""

SPLITS = {"test": "test", "test_unseen": "test_unseen (generators without a training image)"}
MODES = {"whole": "**Each image is a face** (`--whole`).", "detected": "**Faces are found first.**"}
FIGURES = ("auc", "ap", "eer", "accuracy_fitted", "tpr_at_fpr_5")
HEAD = "| fakes | n | AUC | AP | EER | ACC, fitted threshold | TPR at 5% FPR |"


def render(results: Path) -> str:
    """Draw one table a split."""
    parts = []
    for split, title in SPLITS.items():
        report = _scores(results, split)
        rows = [row for row in report["rows"] if row["level"] in {"overall", "generator"}]
        reals = rows[0]["num_real"]
        lines = [f"**{title}**, {reals} real faces, [95% interval]", "", HEAD, "|---" * 7 + "|"]
        parts.append("\n".join([*lines, *map(_line, rows)]))
    return "\n\n".join(parts)


def _scores(results: Path, split: str) -> dict[str, Any]:
    """Read what `mfclip evaluate` found about the embedded weights, whichever these are."""
    name = find_weights(None).stem
    report: dict[str, Any] = json.loads((results / f"{name}-{split}.json").read_text("utf-8"))
    return report


def render_score(results: Path) -> str:
    """Say in one line how good the embedded weights are, on known and on unknown generators."""
    parts = []
    kinds = {
        "test": "forgeries of kinds they were trained on",
        "test_unseen": "kinds they never saw",
    }
    for split, words in kinds.items():
        row = _scores(results, split)["rows"][0]
        figure = {"value": row["figures"]["auc"], **row["intervals"]["auc"]}
        faces = f"{row['num_fake']:,} forged, {row['num_real']:,} real faces"
        parts.append(f"**{_interval(figure)}** on {words} ({faces})")
    return f"AUC of the embedded weights, `{find_weights(None).stem}`: {', '.join(parts)}."


def _line(row: dict[str, Any]) -> str:
    name = "**all**" if row["level"] == "overall" else row["name"]
    cells = [name, str(row["num_fake"])]
    for figure in FIGURES:
        low, high = (row["intervals"][figure][side] for side in ("low", "high"))
        cells.append(f"{row['figures'][figure]:.3f} [{low:.3f}, {high:.3f}]")
    return f"| {' | '.join(cells)} |"


def render_verdicts(weights: Path) -> str:
    """Draw how often the three verdicts err, one column a split, and say what the bands are.

    First where each image is a face, then, if that was measured, where faces are found first.
    """
    card = read_weights(weights).card
    titles = {"val": "validation (fitted on it)", **SPLITS}
    parts = []
    for mode in card.verdict:
        bands = card.bands(mode)
        head = " | ".join(titles[split] for split in bands.rates)
        rows = [f"| {name} | {' | '.join(cells)} |" for name, cells in rate_rows(bands, Words())]
        lines = [f"| | {head} |", "|---" * (1 + len(bands.rates)) + "|", *rows]
        parts.append("\n".join([f"{MODES[mode]} {Words().bands(bands, origin=True)}", "", *lines]))
    return "\n\n".join(parts)


def render_training(results: Path) -> str:
    """Draw one row a part of the training."""
    parts = json.loads((results / "training.json").read_text(encoding="utf-8"))
    lines = ["| run | epochs | hours | best epoch | its validation AUC |", "|---" * 5 + "|"]
    for name, part in parts.items():
        best = part["best"]
        epochs = f"{part['epochs']:.0f} | {part['hours']:.1f}"
        lines.append(f"| `{name}` | {epochs} | {best['epoch']} | {best['auc']:.3f} |")
    return "\n".join(lines)


def render_kinds(weights: Path) -> str:
    """Draw how often the named kind is right, one row a level and split."""
    lines = ["| split | level | faces | right | by a guess |", "|---" * 5 + "|"]
    for split, levels in read_weights(weights).card.kinds.items():
        for level, share in levels.items():
            cells = f"{share.faces} | {_interval(share.model_dump())} | {share.chance:.3f}"
            lines.append(f"| {split} | {level} | {cells} |")
    return "\n".join(lines)


def render_trials(results: Path) -> str:
    """Draw what each trial reached on validation, and how far it is from the base."""
    report = read_result(results, "trials")
    if report is None:
        return MISSING
    ways = [way for way in report["trials"]["base"] if way != "epochs"]
    lines = [
        f"| trial | epochs | {' | '.join(ways)} | centre - base |",
        "|---" * (len(ways) + 3) + "|",
    ]
    for name, trial in report["trials"].items():
        cells = [f"{trial[way]['auc']['value']:.3f}" if way in trial else "-" for way in ways]
        gain = trial["centre"]["difference"]
        apart = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        lines.append(f"| `{name}` | {trial['epochs']} | {' | '.join(cells)} | {apart} |")
    return "\n".join(lines)


def render_robustness(results: Path) -> str:
    """Draw the AUC under each kind of damage, by level."""
    report = json.loads((results / "robustness.json").read_text(encoding="utf-8"))
    levels = list(next(iter(report["damaged"].values())))
    lines = [
        f"| damage | {' | '.join(f'level {level}' for level in levels)} |",
        "|---" * (1 + len(levels)) + "|",
        f"| none | {_interval(report['clean']['auc'])} |" + " |" * (len(levels) - 1),
    ]
    for kind, cells in report["damaged"].items():
        figures = " | ".join(_interval(cells[level]["auc"]) for level in levels)
        lines.append(f"| {EXTRA_PERTURBATIONS[kind].name} | {figures} |")
    return "\n".join(lines)


def render_quality(results: Path) -> str:
    """Draw how many damaged faces get each warning, and what the damage costs."""
    report = json.loads((results / "quality.json").read_text(encoding="utf-8"))
    warnings = ("blurred", "blocky", "dark")
    lines = [
        f"| damage | {' | '.join(warnings)} | AUC | real called fake | forgeries called real |",
        "|---" * 7 + "|",
    ]
    for name, cell in report["damage"].items():
        shares = [f"{100 * cell['warned'][warning]:.0f}%" for warning in warnings]
        rates = [Words().range(Share(**cell["cost"][rate])) for rate in ("false_alarm", "miss")]
        auc = f"{cell['cost']['auc']:.3f}"
        lines.append(f"| {' | '.join([name, *shares, auc, *rates])} |")
    counts = f"{report['train']['faces']} training and {report['val']['faces']} validation faces"
    others = {f"{name}, not saved as JPEG": c for name, c in report["not_saved_alike"].items()}
    for name, cell in {"none, face found and cut out": report["found"], **others}.items():
        rates = [Words().range(Share(**cell[rate])) for rate in ("false_alarm", "miss")]
        cells = [name, "", "", "", f"{cell['auc']:.3f}", *rates]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"{counts}, blur in pixels of a face of 256.", "", *lines])


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def insert(text: str, name: str, table: str) -> str:
    """Put the table between the marks of that name, if the page has them."""
    marks = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
    return re.sub(marks, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)


def draw(results: Path) -> dict[str, str]:
    """Draw all tables, by the name between whose marks they stand."""
    tables = {
        "score": render_score(results),
        "scores": render(results),
        "verdicts": render_verdicts(find_weights(None)),
        "training": render_training(results),
        "trials": render_trials(results),
        "kinds": render_kinds(find_weights(None)),
        "speed": render_speed(results),
        "robustness": render_robustness(results),
        "quality": render_quality(results),
        "targets": render_targets(results),
        "ways": render_ways(results),
        "engines": render_engines(results),
        "machine": render_machine(results),
        "startup": render_startup(results),
        "end_to_end": render_end_to_end(results),
        "scaling": render_scaling(results),
        "profile": render_profile(results),
        "load": render_load(results),
        "fuzz": render_fuzz(results),
    }
    return {name: table + _doubt(results, name) for name, table in tables.items()}


def find_changed(results: Path) -> list[str]:
    """Name the result files that were measured on a tree with changes that no commit holds."""
    names = {name for files in SOURCES.values() for name in files}
    return sorted(name for name in names if _is_changed(results / f"{name}.json"))


def _is_changed(path: Path) -> bool:
    return path.exists() and bool(re.search(r'"commit": "\w+-changed"', path.read_text("utf-8")))


def _doubt(results: Path, table: str) -> str:
    """Say beneath a table what is wrong with the files behind it."""
    changed = [name for name in SOURCES.get(table, ()) if _is_changed(results / f"{name}.json")]
    if not changed:
        return ""
    files = ", ".join(f"`{name}.json`" for name in changed)
    return f"\n\n*Measured on a changed tree ({files}); to be measured again.*"


def main() -> None:
    """Update the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changed", action="store_true", help="take files of a changed tree, too")
    results = ROOT / "benchmarks" / "results"
    if (changed := find_changed(results)) and not parser.parse_args().changed:
        sys.exit(f"measured on a changed tree; commit, and measure again: {', '.join(changed)}")
    tables = draw(results)
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, table in tables.items():
            text = insert(text, name, table)
        (ROOT / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
