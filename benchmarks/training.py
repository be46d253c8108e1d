"""Gather what runs logged into one small file: versions, time taken, every validation.

python benchmarks/training.py runs/small-1 runs/small-2 runs/small --out results/training.json
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

KEPT = ("epoch", "auc", "accuracy", "loss")
PAUSE = 600.0
"""Seconds between two lines of a log beyond which the run was not running."""


def summarise(folder: Path) -> dict[str, Any]:
    """Read the log of a run; steps that a killed process repeated count in the time."""
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    start = next(line for line in lines if line["kind"] == "start")
    epoch, validations = 0.0, []
    for line in lines:
        epoch = line.get("epoch", epoch)
        if line["kind"] == "val":
            validations.append({"epoch": round(epoch), **{k: line[k] for k in KEPT if k in line}})
    gaps = [after["time"] - before["time"] for before, after in pairwise(lines)]
    return {
        "start": {key: value for key, value in start.items() if key not in {"kind", "time"}},
        "epochs": round(epoch, 1),
        "hours": round(sum(gap for gap in gaps if gap < PAUSE) / 3600, 2),
        "best": max(validations, key=lambda line: line["auc"]),
        "validation": validations,
    }


def main() -> None:
    """Write the summary of each run under its name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    parts = {run.name: summarise(run) for run in arguments.runs}
    arguments.out.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
