"""Write measured figures into the pages: README.md, docs and benchmarks/README.md.

    python benchmarks/tables.py

The scores come from ``results/mfclip-small-*.json`` and the error rates of the verdicts from the
card in the embedded weights, both of which `mfclip release` wrote, the training
from ``results/training.json``, which ``training.py`` wrote, and the speeds from
``results/speed-*.json``, which ``speed.py`` wrote, and damage from ``results/robustness.json``,
which ``robustness.py`` wrote, and damage and warnings from ``results/quality.json``, which
``quality.py`` wrote.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mfclip.data.perturbations import EXTRA_PERTURBATIONS
from mfclip.detectors import find_weights
from mfclip.predict.verdict import error_rows, percent, read_bands
from mfclip.weights import read_weights

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/model_card.md",
    "docs/export.md",
    "docs/predict.md",
    "docs/speed.md",
    "benchmarks/README.md",
)
SPLITS = {"test": "test", "test_unseen": "test_unseen (generators without a training image)"}
FIGURES = ("auc", "ap", "eer", "accuracy_fitted", "tpr_at_fpr_5")
MODELS = ("mfclip", "mfclip-small")
WORK = {
    "vision_and_verdict": "vision features and verdict",
    "training_step": "training step",
    "patch_selection": "patch selection",
}
MISSING = "Not measured yet."
HEADING = 2
"""Lines of a table above its first row."""
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


def render_kinds(weights: Path) -> str:
    """Draw how often the named kind is right, one row a level and split."""
    lines = ["| split | level | faces | right | by a guess |", "|---" * 5 + "|"]
    for split, levels in read_weights(weights).card.get("kinds", {}).items():
        for level, share in levels.items():
            cells = f"{share['faces']} | {_interval(share)} | {share['chance']:.3f}"
            lines.append(f"| {split} | {level} | {cells} |")
    return "\n".join(lines)


def render_trials(results: Path) -> str:
    """Draw what each trial reached on validation, and how far it is from the base."""
    report = _read(results, "trials")
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


def render_targets(results: Path) -> str:
    """Draw target and reached for each kind of work, by model."""
    reports = {model: _read(results, f"speed-{model}") or {} for model in MODELS}
    head = " | ".join(f"`{name}`" for name in MODELS)
    lines = [
        f"| what | number type | target | {head} | `mfclip` at the ceiling |",
        "|---" * (4 + len(MODELS)) + "|",
    ]
    for key, title in WORK.items():
        found = [report.get(key, {}).get("targets", {}) for report in reports.values()]
        for precision in dict.fromkeys(name for one in found for name in one):
            cells = [_reached(one.get(precision)) for one in found]
            cells[1:] = [cell.removesuffix(", missed") for cell in cells[1:]]  # no target of theirs
            cells.append(_possible(reports["mfclip"].get(key, {}), precision))
            target = next(one[precision]["target"] for one in found if precision in one)
            lines.append(f"| {title} | {precision} | {target:g} x | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > HEADING else MISSING


def _possible(ways: dict[str, Any], precision: str) -> str:
    """Times faster that the straightforward way's work could be done at the measured ceilings."""
    best = ways.get("targets", {}).get(precision, {}).get("best", "")
    part = ways.get(best, {}).get("fraction_of_ceiling")
    return "-" if part is None else f"{ways[best]['times_faster'] / part:.1f} x"


def _reached(found: dict[str, Any] | None) -> str:
    if found is None or found["reached"] is None:
        return "not measured"
    word = "" if found["reached"] >= found["target"] else ", missed"
    return f"{found['reached']:.1f} x ({found['best']}){word}"


def render_ways(results: Path) -> str:
    """Draw every way of every kind of work: rate, ratio, part of the ceiling, difference."""
    lines = [
        "| model | what | way | images/s | times faster | of ceiling | largest difference |",
        "|---" * 7 + "|",
    ]
    for model in MODELS:
        report = _read(results, f"speed-{model}") or {}
        for key, title in WORK.items():
            ways = {name: way for name, way in report.get(key, {}).items() if name != "targets"}
            lines += [_way(model, title, name, way) for name, way in ways.items()]
    return "\n".join(lines) if len(lines) > HEADING else MISSING


def _way(model: str, title: str, name: str, way: dict[str, Any]) -> str:
    part = way.get("fraction_of_ceiling")
    cells = [
        f"{way['images_per_second']:.1f}",
        f"{way['times_faster']:.2f}",
        "-" if part is None else f"{part:.0%}",
        f"{way['largest_difference']:.1g}",
    ]
    return f"| `{model}` | {title} | {name} | {' | '.join(cells)} |"


def render_engines(results: Path) -> str:
    """Draw every engine and number type: rate, ratios, change of the scores and of AUC."""
    lines = [
        "| model | engine | images/s | times plain PyTorch | times straightforward "
        "| largest change of a score | change of AUC |",
        "|---" * 7 + "|",
    ]
    for model in MODELS:
        report = _read(results, f"engines-{model}") or {}
        changes = report.get("change_on_test", {})
        for name, way in report.get("ways", {}).items():
            change = changes.get(name)
            cells = [
                f"{way['images_per_second']:.1f}",
                f"{way['times_plain_torch']:.2f}",
                f"{way['times_straightforward']:.2f}",
                f"{way['largest_score_difference']:.1g}",
                "-" if change is None else f"{change['auc_change']:+.4f}",
            ]
            lines.append(f"| `{model}` | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > HEADING else MISSING


def render_startup(results: Path) -> str:
    """Draw the seconds from a command to its answer."""
    report = _read(results, "startup")
    if report is None:
        return MISSING
    lines = ["| command | seconds | of processor | target |", "|---" * 4 + "|"]
    for name, way in report["ways"].items():
        target = way["target_seconds"]
        seconds = f"{way['seconds']['median']:.2f} | {way['processor_seconds']['median']:.2f}"
        lines.append(f"| `{name}` | {seconds} | {'-' if target is None else f'{target:g}'} |")
    return "\n".join(lines)


def render_end_to_end(results: Path) -> str:
    """Draw the rate from files beside the engine's own."""
    report = _read(results, "end_to_end")
    if report is None:
        return MISSING
    lines = [
        "| model | engine | faces | engine alone | from files | part reached | part possible "
        "| reading, ms of one core |",
        "|---" * 8 + "|",
    ]
    for row in report["rows"]:
        missed = "" if row["part_reached"] >= report["target"] else ", missed"
        cells = [
            f"`{row['model']}` | {row['engine']} | {row['faces']}",
            f"{row['engine_images_per_second']:.1f}",
            f"{row['files_images_per_second']:.1f}",
            f"{row['part_reached']:.0%}{missed}",
            f"{row['part_possible']:.0%}",
            f"{row['reading_processor_ms']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def render_scaling(results: Path) -> str:
    """Draw time and memory against the number of pictures."""
    report = _read(results, "scaling")
    if report is None:
        return MISSING
    names = {"predict": "`Predictor.iter_predict`", "score": "loader of `mfclip evaluate`"}
    lines = [
        "| through | pictures | seconds | ms a picture | ms of one core a picture | peak MiB |",
        "|---" * 6 + "|",
    ]
    for row in sorted(report["rows"], key=lambda row: (row["way"], row["pictures"])):
        peak = "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        cells = [
            f"{row['pictures']:,} | {row['seconds']:.1f} | {row['ms_per_picture']:.2f}",
            f"{row['processor_ms_per_picture']:.2f} | {peak}",
        ]
        lines.append(f"| {names[row['way']]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def render_machine(results: Path) -> str:
    """Say what the speeds were measured on, and its ceilings."""
    report = _read(results, "speed-mfclip") or {}
    if "ceilings_flops_per_second" not in report:
        return MISSING
    ceilings = ", ".join(
        f"{name} {rates['product'] / 1e9:,.0f} GFLOP/s in products and "
        f"{rates['convolution'] / 1e9:,.0f} in convolutions"
        for name, rates in report["ceilings_flops_per_second"].items()
    )
    place = f"{report['processor']}, {report['cores']} cores, {report['threads']} threads"
    return f"{place}, torch {report['torch']}, commit {report['commit']}. Ceilings: {ceilings}."


def render_profile(results: Path) -> str:
    """Draw the operators that take the most time, for each kind of work."""
    report = _read(results, "profile")
    if report is None:
        return MISSING
    lines = ["| model | work | operators, with their share of the time |", "|---" * 3 + "|"]
    for row in report["rows"]:
        shares = ", ".join(f"`{name}` {share:.0%}" for name, share in row["shares"].items())
        lines.append(f"| `{row['model']}` | {row['work']} | {shares} |")
    return "\n".join(lines)


def _read(results: Path, name: str) -> dict[str, Any] | None:
    path = results / f"{name}.json"
    if not path.is_file():
        return None
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree


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
        rates = [percent(cell["cost"][rate]) for rate in ("false_alarm", "miss")]
        auc = f"{cell['cost']['auc']:.3f}"
        lines.append(f"| {' | '.join([name, *shares, auc, *rates])} |")
    counts = f"{report['train']['faces']} training and {report['val']['faces']} validation faces"
    others = {f"{name}, not saved as JPEG": c for name, c in report["not_saved_alike"].items()}
    for name, cell in {"none, face found and cut out": report["found"], **others}.items():
        rates = [percent(cell[rate]) for rate in ("false_alarm", "miss")]
        cells = [name, "", "", "", f"{cell['auc']:.3f}", *rates]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"{counts}, blur in pixels of a face of 256.", "", *lines])


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
    }
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, table in tables.items():
            text = insert(text, name, table)
        (ROOT / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
