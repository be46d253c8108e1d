"""Time from the command to the answer, each run in a process of its own.

    python benchmarks/startup.py --out benchmarks/results/startup.json

Measured are a bare interpreter, the import of torch alone, the import of the command line, its
help, and ``mfclip predict`` of one picture with and without its face step. The ways take turns;
given are the median seconds of the clock, and of the processor, which other work on the machine
disturbs less. Files come out of the system's cache after the first, uncounted round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from machine.timing import Timing, time_ways
from mfclip.runtime.provenance import provenance

PICTURE = str(files("mfclip").joinpath("assets/demo/real/collins.jpg"))
RUN = "from mfclip.cli import main; main()"

WAYS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import mfclip, mfclip.cli": ["-c", "import mfclip, mfclip.cli"],
    "mfclip --help": ["-c", RUN, "--help"],
    "mfclip predict --whole one.jpg": ["-c", RUN, "predict", "--whole", PICTURE],
    "mfclip predict one.jpg": ["-c", RUN, "predict", PICTURE],
}

TARGETS = {"import mfclip, mfclip.cli": 0.5, "mfclip predict one.jpg": 2.0}
"""Seconds."""


class Starter:
    """Runs one way, and keeps the processor seconds of each run."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.processor: list[float] = []

    def __call__(self) -> None:
        before = os.times()
        subprocess.run([sys.executable, *self.arguments], check=True, capture_output=True)
        after = os.times()
        used = after.children_user - before.children_user
        self.processor.append(used + after.children_system - before.children_system)


def measure(rounds: int) -> dict[str, Any]:
    starters = {name: Starter(arguments) for name, arguments in WAYS.items()}
    timings = time_ways(starters, rounds=rounds)
    return {
        name: {
            "seconds": timings[name].to_json(),
            "processor_seconds": Timing(tuple(starter.processor[1:])).to_json(),
            "target_seconds": TARGETS.get(name),
        }
        for name, starter in starters.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    result = {
        "command": "python benchmarks/startup.py",
        "rounds": options.rounds,
        "load_before": load,
        **asdict(provenance()),
        "ways": measure(options.rounds),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, way in result["ways"].items():
        seconds, processor = way["seconds"]["median"], way["processor_seconds"]["median"]
        target = way["target_seconds"]
        wanted = "" if target is None else f"  (target {target} s)"
        print(f"{name:32} {seconds:6.2f} s, {processor:6.2f} s of processor{wanted}")


if __name__ == "__main__":
    main()
