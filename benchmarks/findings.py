"""Gather finished experiments into the results, and write their tables into docs/findings.md.

    python benchmarks/findings.py RUNS        # RUNS holds a folder an experiment
    python benchmarks/findings.py             # the page again, from what was gathered

Of each experiment the report is kept (Markdown, CSV, HTML: figures, settings, seeds and versions),
and drawings go into ``docs/figures``; no picture of a face is among them. What sample pair
attention does to features is measured by ``pair_attention.py``.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from mfclip.errors import ConfigError
from mfclip.experiment.drawing import write_figure
from mfclip.experiment.report import write_report
from mfclip.labels import LEVELS
from tables import ROOT, insert

RESULTS = ROOT / "benchmarks" / "results" / "findings"
PAGE = ROOT / "docs" / "findings.md"
FIGURES = ROOT / "docs" / "figures"
REPORTS = ("report.md", "report.csv", "report.html")
DRAWINGS = {
    "cross_family": ("fig6",),
    "robustness": ("fig7",),
    "unseen": ("roc", "det", "reliability", "histograms"),
    "prompt_levels": ("fig8",),
    "spa": ("training",),
}
"""Figures that are kept, by experiment."""

Line = dict[str, str]


def gather(runs: Path) -> None:
    """Report every experiment of a folder and keep what its report says."""
    for folder in sorted(path.parent for path in runs.glob("*/experiment.json")):
        write_report(folder)
        kept = RESULTS / folder.name
        kept.mkdir(parents=True, exist_ok=True)
        for name in REPORTS:
            shutil.copyfile(folder / name, kept / name)
        for name in DRAWINGS.get(folder.name, ()):
            try:
                pictures = [path for path in write_figure(name, folder) if path.suffix == ".png"]
            except ConfigError as error:
                print(f"left out: {folder.name}, {name}: {error}")
                continue
            for picture in pictures:
                shutil.copyfile(picture, FIGURES / picture.name)


def read(name: str, metric: str = "auc") -> list[Line]:
    """Lines of a report that hold one figure."""
    path = RESULTS / name / "report.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [line for line in csv.DictReader(file) if line["metric"] == metric]


def clean_table(lines: list[Line]) -> str:
    """Draw rows against tests without damage; each training set is a row of its own."""
    clean = [line for line in lines if not line["perturbation"]]
    tests = list(dict.fromkeys(line["test"] for line in clean))
    sizes = {line["test"]: f"{line['num_real']} + {line['num_fake']}" for line in clean}
    rows: dict[tuple[str, str], dict[str, Line]] = {}
    for line in clean:
        rows.setdefault((line["row"], line["train"]), {})[line["test"]] = line
    several = len({train for _, train in rows}) > 1
    head = ["detector", *(["trained on"] if several else []), "seeds"]
    headings = [*head, *(f"{test} ({sizes[test]})" for test in tests)]
    out = [headings, ["---"] * len(headings)]
    for (row, train), found in rows.items():
        seeds = next(iter(found.values()))["seeds"].split()
        start = [row, *([train] if several else []), str(len(seeds))]
        out.append([*start, *(show(found[test]) if test in found else "-" for test in tests)])
    return "\n".join(f"| {' | '.join(line)} |" for line in out)


def show(line: Line) -> str:
    """Write a figure in percent: its mean, its deviation over seeds, its interval."""
    spread = f" ± {float(line['spread']):.1f}" if line["std"] else ""
    return (
        f"{float(line['mean']):.1f}{spread} [{float(line['low']):.1f}, {float(line['high']):.1f}]"
    )


def damage_table(lines: list[Line]) -> str:
    """Draw the mean AUC over all kinds of damage by level, and each kind at level 3, on `seen`."""
    seen = [line for line in lines if line["subset"] == "seen"]
    kinds = list(dict.fromkeys(line["perturbation"] for line in seen if line["perturbation"]))
    levels = sorted({line["level"] for line in seen if line["perturbation"]})
    columns = ["clean", *(f"level {level}" for level in levels), *(f"{kind} 3" for kind in kinds)]
    out = [["detector", *columns], ["---"] * (1 + len(columns))]
    for row in dict.fromkeys(line["row"] for line in seen):
        own = [line for line in seen if line["row"] == row]
        cells = [average(line for line in own if not line["perturbation"])]
        cells += [
            average(line for line in own if line["level"] == level and line["perturbation"])
            for level in levels
        ]
        cells += [
            average(line for line in own if (line["perturbation"], line["level"]) == (kind, "3"))
            for kind in kinds
        ]
        out.append([row, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in out)


def features_table(path: Path) -> str:
    """Draw what ``pair_attention.py`` measured, a line a run."""
    out = [
        ["run", "seed", "contrastive loss", "mean cosine", *LEVELS[1:]],
        ["---"] * (4 + len(LEVELS[1:])),
    ]
    for run in sorted(json.loads(path.read_text(encoding="utf-8"))["rows"], key=place):
        kinds = [run["kinds"][level] for level in LEVELS[1:]]
        cells = [f"{run['contrastive_loss']:.2f}", f"{run['mean_cosine']:.2f}"]
        cells += [f"{k['value']:.0%} [{k['low']:.0%}, {k['high']:.0%}]" for k in kinds]
        out.append([run["row"], str(run["seed"]), *cells])
    chances = [f"{run['kinds'][level]['chance']:.0%}" for level in LEVELS[1:]]
    out.append(["*a guess*", "", "", "", *chances])
    return "\n".join(f"| {' | '.join(line)} |" for line in out)


def place(run: dict[str, Any]) -> tuple[str, int]:
    """Order of the lines: by row and seed."""
    return run["row"], run["seed"]


def average(lines: Iterable[Line]) -> str:
    """Write the mean of figures in percent."""
    values = [float(line["mean"]) for line in lines]
    return f"{mean(values):.1f}" if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="?", help="folder of the experiments")
    options = parser.parse_args()
    if options.runs:
        gather(options.runs)
    text = PAGE.read_text(encoding="utf-8")
    for folder in sorted(RESULTS.iterdir()):
        text = insert(text, folder.name, clean_table(read(folder.name)))
    text = insert(text, "damage", damage_table(read("robustness")))
    text = insert(text, "features", features_table(RESULTS / "spa" / "features.json"))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
