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
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mfclip.errors import ConfigError, InputError
from mfclip.experiment.differences import compare_rows
from mfclip.experiment.drawing import write_figure
from mfclip.experiment.figures.style import COLOURS, LABEL, MARKERS, new_figure, save_figure
from mfclip.experiment.report import write_report
from mfclip.experiment.score_curves import read_log
from mfclip.experiment.store import Store
from mfclip.labels import LEVELS
from tables import ROOT, insert

RESULTS = ROOT / "benchmarks" / "results" / "findings"
PAGE = ROOT / "docs" / "findings.md"
FIGURES = ROOT / "docs" / "figures"
REPORTS = ("report.md", "report.csv", "report.html")
DRAWINGS = {"parts": ("roc", "det", "reliability", "histograms", "training")}
"""Figures that are kept, by experiment."""

WHOLE, PLAIN, UNPAIRED = (
    "NE + IE + FTE + predictor + SPA",
    "NE + IE",
    "NE + IE + FTE + predictor",
)
PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "parts": (
        ("NE + IE", "IE"),
        ("IE + FTE", "IE"),
        ("IE + FTE + predictor", "IE + FTE"),
        (UNPAIRED, "IE + FTE + predictor"),
        (WHOLE, UNPAIRED),
        ("SPA as in the paper", UNPAIRED),
        ("CE + CMC", PLAIN),
        ("CE + KL", PLAIN),
        (WHOLE, "CE + CMC"),
        (WHOLE, PLAIN),
        (WHOLE, "IE"),
    ),
}
"""What each experiment asks: one row less another that lacks one thing."""

Line = dict[str, str]


def gather(runs: Path) -> None:
    """Report every experiment of a folder and keep what its report says."""
    for folder in sorted(path.parent for path in runs.glob("*/experiment.json")):
        write_report(folder)
        kept = RESULTS / folder.name
        kept.mkdir(parents=True, exist_ok=True)
        for name in REPORTS:
            shutil.copyfile(folder / name, kept / name)
        if pairs := PAIRS.get(folder.name):
            found = list(filter(None, (apart(folder, *pair) for pair in pairs)))
            text = json.dumps(found, indent=1) + "\n"
            (kept / "differences.json").write_text(text, encoding="utf-8")
        text = json.dumps(validations(folder), indent=1) + "\n"
        (kept / "validation.json").write_text(text, encoding="utf-8")
        for name in DRAWINGS.get(folder.name, ()):
            try:
                pictures = [path for path in write_figure(name, folder) if path.suffix == ".png"]
            except ConfigError as error:
                print(f"left out: {folder.name}, {name}: {error}")
                continue
            for picture in pictures:
                shutil.copyfile(picture, FIGURES / picture.name)


def apart(folder: Path, row: str, base: str) -> dict[str, Any] | None:
    """Subtract two rows on every test."""
    try:
        found = compare_rows(Store(folder), row, base)
    except InputError as error:
        print(f"left out: {folder.name}: {error}")
        return None
    return {
        "row": row,
        "base": base,
        "seeds": found[0].seeds,
        "auc": {
            each.test: {"value": each.value, "low": each.low, "high": each.high} for each in found
        },
    }


def differences_table(path: Path) -> str:
    """Draw differences in points of AUC; bold where the interval does not hold 0."""
    pairs = json.loads(path.read_text(encoding="utf-8"))
    tests = list(dict.fromkeys(test for pair in pairs for test in pair["auc"]))
    out = [["difference", "seeds", *tests], ["---"] * (2 + len(tests))]
    for pair in pairs:
        cells = [points(pair["auc"][test]) if test in pair["auc"] else "-" for test in tests]
        out.append([f"{pair['row']} less {pair['base']}", str(len(pair["seeds"])), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in out)


def points(found: dict[str, float]) -> str:
    """Write a difference and its interval in percentage points."""
    value, low, high = (f"{100 * found[name]:+.1f}" for name in ("value", "low", "high"))
    strong = "**" if found["low"] > 0 or found["high"] < 0 else ""
    return f"{strong}{value}{strong} [{low}, {high}]"


def draw_differences(path: Path) -> None:
    """Draw all differences with their intervals, one panel a test; in brackets the seeds."""
    files = [RESULTS / name / "differences.json" for name in PAIRS]
    pairs = [pair for file in files for pair in json.loads(file.read_text(encoding="utf-8"))]
    names = [f"{pair['row']} less {pair['base']} ({len(pair['seeds'])})" for pair in pairs]
    tests = list(dict.fromkeys(test for pair in pairs for test in pair["auc"]))
    figure = new_figure(9, 0.8 + 0.22 * len(pairs))
    panels = figure.subplots(1, len(tests), sharey=True, squeeze=False)[0]
    for test, panel in zip(tests, panels, strict=True):
        for place, pair in enumerate(pairs):
            value, low, high = (100 * pair["auc"][test][name] for name in ("value", "low", "high"))
            sure = low > 0 or high < 0
            panel.plot([low, high], [place, place], color=COLOURS[0 if sure else 4], linewidth=1)
            panel.plot(value, place, MARKERS[0] if sure else "|", color=COLOURS[0 if sure else 4])
        panel.axvline(0, color="#888888", linewidth=0.8)
        panel.set_title(test, fontsize=LABEL)
        panel.grid(axis="x", color="#dddddd", linewidth=0.5)
        panel.tick_params(labelsize=LABEL)
        panel.set_xlabel("points of AUC", fontsize=LABEL)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    save_figure(figure, path)


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
    spread = f" ± {float(line['std']):.1f}" if line["std"] else ""
    return (
        f"{float(line['mean']):.1f}{spread} [{float(line['low']):.1f}, {float(line['high']):.1f}]"
    )


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


def validations(folder: Path) -> dict[str, list[float]]:
    """Best AUC on the validation split of each seed, by row."""
    store = Store(folder)
    out: dict[str, list[float]] = {}
    for run in store.results():
        log = read_log(store.finished(run["key"]) / "training")
        best = max(line["auc"] for line in log if line["kind"] == "val")
        out.setdefault(run["row"], []).append(best)
    return out


def validation_table(path: Path) -> str:
    """Draw the mean and the deviation over seeds of the AUC on the validation split."""
    out = [["detector", "seeds", "validation AUC"], ["---"] * 3]
    for row, values in json.loads(path.read_text(encoding="utf-8")).items():
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        out.append([row, str(len(values)), f"{100 * mean(values):.1f}{spread}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="?", help="folder of the experiments")
    options = parser.parse_args()
    if options.runs:
        gather(options.runs)
    text = PAGE.read_text(encoding="utf-8")
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        text = insert(text, folder.name, clean_table(read(folder.name)))
        table = validation_table(folder / "validation.json")
        text = insert(text, f"{folder.name} validation", table)
        if folder.name in PAIRS:
            table = differences_table(folder / "differences.json")
            text = insert(text, f"{folder.name} differences", table)
    features = RESULTS / "parts" / "features.json"
    if features.is_file():
        text = insert(text, "features", features_table(features))
    PAGE.write_text(text, encoding="utf-8")
    draw_differences(FIGURES / "differences.png")


if __name__ == "__main__":
    main()
