"""Write measured figures into README.md, docs/model_card.md and benchmarks/README.md.

    python benchmarks/tables.py

The scores come from ``results/mfclip-small-*.json`` and the error rates of the verdicts from the
card in the embedded weights, both of which `mfclip release` wrote, the training
from ``results/training.json``, which ``training.py`` wrote, and the speeds from
``results/speed-*.json``, which ``speed.py`` wrote, and damage from ``results/robustness.json``,
which ``robustness.py`` wrote.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mfclip.data.perturbations import EXTRA_PERTURBATIONS
from mfclip.detectors import find_weights
from mfclip.predict.verdict import error_rows, read_bands
from mfclip.weights import read_weights

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/model_card.md", "benchmarks/README.md")
SPLITS = {"test": "test", "test_unseen": "test_unseen (generators without a training image)"}
FIGURES = ("auc", "ap", "eer", "accuracy_fitted", "tpr_at_fpr_5")
MODELS = ("mfclip", "mfclip-small")
WORK = {
    "vision_and_verdict": "vision features and verdict",
    "training_step": "training step",
    "patch_selection": "patch selection",
}
HEAD = "| fakes | n | AUC | AP | EER | ACC, fitted threshold | TPR at 5% FPR |"


def render(results: Path) -> str:
    """Draw one table a split."""
    parts = []
    for split, title in SPLITS.items():
        report = json.loads((results / f"mfclip-small-{split}.json").read_text(encoding="utf-8"))
        rows = [row for row in report["rows"] if row["level"] in {"overall", "generator"}]
        reals = rows[0]["num_real"]
        lines = [f"**{title}**, {reals} real faces, [95% interval]", "", HEAD, "|---" * 7 + "|"]
        parts.append("\n".join([*lines, *map(_line, rows)]))
    return "\n\n".join(parts)


def _line(row: dict[str, Any]) -> str:
    name = "**all**" if row["level"] == "overall" else row["name"]
    cells = [name, str(row["num_fake"])]
    for figure in FIGURES:
        low, high = (row["intervals"][figure][side] for side in ("low", "high"))
        cells.append(f"{row['figures'][figure]:.3f} [{low:.3f}, {high:.3f}]")
    return f"| {' | '.join(cells)} |"


def render_verdicts(weights: Path) -> str:
    """Draw how often the three verdicts err, one column a split, and say what the bands are."""
    bands = read_bands(read_weights(weights).card)
    titles = {"val": "validation (fitted on it)", **SPLITS}
    head = " | ".join(titles[split] for split in bands.rates)
    lines = [f"| | {head} |", "|---" * (1 + len(bands.rates)) + "|"]
    lines += [f"| {words} | {' | '.join(cells)} |" for words, cells in error_rows(bands)]
    return "\n".join([bands.explain(), "", *lines])


def render_training(results: Path) -> str:
    """Draw one row a part of the training."""
    parts = json.loads((results / "training.json").read_text(encoding="utf-8"))
    lines = ["| run | epochs | hours | best epoch | its validation AUC |", "|---" * 5 + "|"]
    for name, part in parts.items():
        best = part["best"]
        epochs = f"{part['epochs']:.0f} | {part['hours']:.1f}"
        lines.append(f"| `{name}` | {epochs} | {best['epoch']} | {best['auc']:.3f} |")
    return "\n".join(lines)


def render_speed(results: Path) -> str:
    """Draw images a second of the straightforward way, and how many times faster the others are."""
    lines = ["| model | what | straightforward | fp32 | bf16 |", "|---" * 5 + "|"]
    for model in MODELS:
        report = json.loads((results / f"speed-{model}.json").read_text(encoding="utf-8"))
        for key, title in WORK.items():
            ways = report[key]
            cells = [f"{ways['straightforward']['images_per_second']:.1f} images/s"]
            cells += [
                f"{ways[way]['images_per_second']:.1f} ({ways[way]['times_faster']:.2f} x)"
                if way in ways
                else "-"
                for way in ("fp32", "bf16")
            ]
            lines.append(f"| `{model}` | {title} | {' | '.join(cells)} |")
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


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def insert(text: str, name: str, table: str) -> str:
    """Put the table between the marks of that name, if the page has them."""
    marks = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
    return re.sub(marks, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)


def main() -> None:
    """Update the pages."""
    results = ROOT / "benchmarks" / "results"
    tables = {
        "scores": render(results),
        "verdicts": render_verdicts(find_weights(None)),
        "training": render_training(results),
        "speed": render_speed(results),
        "robustness": render_robustness(results),
    }
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, table in tables.items():
            text = insert(text, name, table)
        (ROOT / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
