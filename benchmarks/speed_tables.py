"""The tables that say how fast this is, from the files in ``results``; see ``tables.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS = ("mfclip", "mfclip-small")
WORK = {
    "vision_and_verdict": "vision features and verdict",
    "training_step": "training step",
    "patch_selection": "patch selection",
}
MISSING = "Not measured yet."
HEADING = 2
"""Lines of a table above its first row."""


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
    reports = {model: read_result(results, f"speed-{model}") or {} for model in MODELS}
    head = " | ".join(f"`{name}`" for name in MODELS)
    lines = [
        f"| what | number type | wanted | {head} | `mfclip` at the ceiling |",
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
        report = read_result(results, f"speed-{model}") or {}
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
        report = read_result(results, f"engines-{model}") or {}
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
    report = read_result(results, "startup")
    if report is None:
        return MISSING
    lines = ["| command | seconds | of processor | wanted |", "|---" * 4 + "|"]
    for name, way in report["ways"].items():
        target = way["target_seconds"]
        seconds = f"{way['seconds']['median']:.2f} | {way['processor_seconds']['median']:.2f}"
        lines.append(f"| `{name}` | {seconds} | {'-' if target is None else f'{target:g}'} |")
    return "\n".join(lines)


def render_end_to_end(results: Path) -> str:
    """Draw the rate from files beside the engine's own."""
    report = read_result(results, "end_to_end")
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
    report = read_result(results, "scaling")
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
    report = read_result(results, "speed-mfclip") or {}
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
    report = read_result(results, "profile")
    if report is None:
        return MISSING
    lines = ["| model | work | operators, with their share of the time |", "|---" * 3 + "|"]
    for row in report["rows"]:
        shares = ", ".join(f"`{name}` {share:.0%}" for name, share in row["shares"].items())
        lines.append(f"| `{row['model']}` | {row['work']} | {shares} |")
    return "\n".join(lines)


def read_result(results: Path, name: str) -> dict[str, Any] | None:
    """Return what a command wrote, or None if it never ran."""
    path = results / f"{name}.json"
    if not path.is_file():
        return None
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree
