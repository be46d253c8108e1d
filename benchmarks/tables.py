"""Write measured figures into README.md and docs/model_card.md.

    python benchmarks/tables.py

The scores come from ``results/mfclip-small-*.json``, which `mfclip release` wrote, the training
from ``results/training.json``, which ``training.py`` wrote.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPLITS = {"test": "test", "test_unseen": "test_unseen (generators without a training image)"}
FIGURES = ("auc", "ap", "eer", "accuracy_fitted", "tpr_at_fpr_5")
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


def render_training(results: Path) -> str:
    """Draw one row a part of the training."""
    parts = json.loads((results / "training.json").read_text(encoding="utf-8"))
    lines = ["| run | epochs | hours | best epoch | its validation AUC |", "|---" * 5 + "|"]
    for name, part in parts.items():
        best = part["best"]
        epochs = f"{part['epochs']:.0f} | {part['hours']:.1f}"
        lines.append(f"| `{name}` | {epochs} | {best['epoch']} | {best['auc']:.3f} |")
    return "\n".join(lines)


def insert(text: str, name: str, table: str) -> str:
    """Put the table between the marks of that name, if the page has them."""
    marks = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
    return re.sub(marks, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)


def main() -> None:
    """Update the pages."""
    results = ROOT / "benchmarks" / "results"
    for page in (ROOT / "README.md", ROOT / "docs" / "model_card.md"):
        text = insert(page.read_text(encoding="utf-8"), "scores", render(results))
        page.write_text(insert(text, "training", render_training(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
