"""The tables that say what became of a server, from the files in ``results``; see ``tables.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speed_tables import MISSING, read_result


def render_load(results: Path) -> str:
    """Draw throughput and waiting times by what is sent and by how many clients."""
    report = read_result(results, "serve_load")
    if report is None:
        return MISSING
    lines = [
        "| sent | clients | requests/s | median, ms | 99%, ms | lost | score differs by at most "
        "| memory, MiB |",
        "|---" * 8 + "|",
    ]
    for sent, rows in report["results"].items():
        for row in rows:
            apart = f"{row['largest_difference_of_scores']:.1g}"
            cells = [
                f"{sent} | {row['clients']} | {row['requests_per_second']:.1f}",
                f"{row['p50_ms']:.0f} | {row['p99_ms']:.0f} | {row['lost']} | {apart}",
                f"{row['memory_mib']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def render_fuzz(results: Path) -> str:
    """Draw what was sent and answered, and the memory at rest after each round."""
    report = read_result(results, "serve_fuzz")
    if report is None:
        return MISSING
    lines = ["| sent | number | came out | slowest, s |", "|---" * 4 + "|"]
    for name in ("pictures", "videos"):
        found = report[name]
        lines.append(
            f"| damaged {name} | {found['sent']:,} | {_outcomes(found)} "
            f"| {found['slowest_seconds']:.1f} |"
        )
    made_up = report["schemathesis"]
    failures = len(made_up["failures"]) or "nothing against the description"
    lines.append(f"| made-up requests | {made_up['requests']:,} | {failures} | |")
    rounds = report.get("attacks", [])
    for name in rounds[-1] if rounds else ():
        answers: Counter[str] = Counter()
        honest: Counter[str] = Counter()
        for found in rounds:
            answers.update(found[name].get("answers", {}))
            honest.update(found[name]["honest images"])
        told = f"{_list(answers)}; " if answers else ""
        worst = max(found[name]["slowest_seconds"] for found in rounds)
        lines.append(f"| {name} | | {told}honest images meanwhile {_list(honest)} | {worst:.1f} |")
    at_rest = report["memory_mib"]["at rest, before and after each round"]
    memory = ", ".join(f"{mib:.0f}" for mib in at_rest[1:])
    return "\n".join(
        [*lines, "", f"Memory at rest: {at_rest[0]:.0f} MiB before, {memory} MiB after each round."]
    )


def _outcomes(found: dict[str, Any]) -> str:
    return "; ".join(
        [_list(found["outcomes"]), f"errors of the server and hangs: {len(found['bad'])}"]
    )


def _list(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{name}: {count:,}" for name, count in counts.items())
