"""What each saving of arithmetic or memory traffic gains: the work done both ways, in turn.

    python benchmarks/arithmetic.py --out benchmarks/results/arithmetic.json

With ``--group NAME`` a part alone, such as baseline, whose table is printed only.

Times are those of the processor in one thread, which other programs on the machine disturb little.
A gain is the median of the ratios before / after of the rounds. The ideas are in `ideas.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ideas import GROUPS, Idea, memory_ideas
from mfclip.runtime.memory import keep_freed_memory
from mfclip.runtime.provenance import provenance


def measure(idea: Idea, rounds: int) -> dict[str, Any]:
    """Run both ways in turn; return processor seconds, the gain, and how far the results differ."""
    left, right = idea.before(), idea.after()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for way, times in zip((idea.before, idea.after), seconds, strict=True):
            if idea.settles:
                way()
            began = time.process_time()
            way()
            times.append(time.process_time() - began)
    gains = [a / b for a, b in zip(*seconds, strict=True)]
    return {
        "what": idea.what,
        "taken": idea.taken,
        "processor_seconds_before": statistics.median(seconds[0]),
        "processor_seconds_after": statistics.median(seconds[1]),
        "gain": statistics.median(gains),
        "gains": {"min": min(gains), "max": max(gains)},
        "largest_difference": float((left.float() - right.float()).abs().max()),
        "largest_value": float(left.float().abs().max()),
    }


def render(report: dict[str, Any]) -> str:
    """Draw the table of benchmarks/README.md."""
    lines = ["| idea | before | after | gain | taken |", "|---" * 5 + "|"]
    for row in sorted(report["ideas"], key=lambda row: (not row["taken"], -row["gain"])):
        times = (row["processor_seconds_before"], row["processor_seconds_after"])
        before, after = (f"{1000 * seconds:.1f} ms" for seconds in times)
        answer = "yes" if row["taken"] else "no"
        lines.append(f"| {row['what']} | {before} | {after} | {row['gain']:.2f} x | {answer} |")
    return "\n".join(lines)


def insert(table: str) -> None:
    """Put the table into benchmarks/README.md."""
    page = Path(__file__).with_name("README.md")
    marks = r"(<!-- arithmetic: [^\n]*-->\n).*?(<!-- /arithmetic -->)"
    text = page.read_text(encoding="utf-8")
    text = re.sub(marks, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure, write the figures and the table, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    names = {group.__name__.removesuffix("_ideas"): group for group in GROUPS}
    parser.add_argument("--group", choices=[n for n in names if n != "<lambda>"], default=None)
    arguments = parser.parse_args()
    groups = GROUPS if arguments.group is None else (names[arguments.group],)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "command": "python benchmarks/arithmetic.py",
        "rounds": arguments.rounds,
        "threads": 1,
        **asdict(provenance()),
        "ideas": [],
    }
    if arguments.group is None:
        report["ideas"] += [measure(idea, arguments.rounds) for idea in memory_ideas()]
    keep_freed_memory()
    for group in groups:
        report["ideas"] += [measure(idea, arguments.rounds) for idea in group()]
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if arguments.group is None:
            insert(render(report))
    print(render(report))


if __name__ == "__main__":
    main()
